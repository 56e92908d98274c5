"""The entry point of `emseg`: how options are written, help, and readers that leave."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_emseg.commands import COMMANDS, Command, Tree, main, normalise_words, parser_for


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--pixel-size-nm", "4"], ["--pixel_size_nm", "4"]),
        (["--pixel-size-nm=4-5"], ["--pixel_size_nm=4-5"]),
        (["--overwrite"], ["--overwrite=true"]),
        (["--overwrite", "--seed", "3"], ["--overwrite=true", "--seed", "3"]),
        (["--overwrite", "false"], ["--overwrite", "false"]),
        (["data", "inspect", "my-store.zarr"], ["data", "inspect", "my-store.zarr"]),
        (["--seed", "-3"], ["--seed", "-3"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_options_may_have_dashes_and_switches_no_value(given: list[str], expected: list[str]) -> None:
    assert normalise_words(given) == expected


def test_help_is_shown_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "data" in capsys.readouterr().err


def test_closed_pipes_are_no_error(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        main(["data", "inspect", str(tiny_store)])
        # From now on it goes nowhere, and Python has nothing to complain about when it ends.
        print("more", flush=True)
        assert os.path.samestat(os.fstat(closed.fileno()), Path(os.devnull).stat())


def leaves(tree: Tree, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for name, entry in tree.items():
        if isinstance(entry, Command):
            yield (*words, name), entry
        else:
            yield from leaves(entry, (*words, name))


LEAVES = list(leaves(COMMANDS))


@pytest.mark.parametrize(("words", "command"), LEAVES, ids=[" ".join(words) for words, _ in LEAVES])
def test_every_command_says_what_it_does(
    words: tuple[str, ...], command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = (command.function.__doc__ or "").split("\n")[0]
    assert command.summary == summary
    assert summary.endswith(".")
    with pytest.raises(SystemExit):
        parser_for(words).parse_args([*words, "--help"])
    shown = capsys.readouterr().out
    assert " ".join(summary.split()) in " ".join(shown.split())
    assert f"emseg {words[0]}" in shown or f"emseg [options] {words[0]}" in shown


@pytest.mark.parametrize(
    ("words", "left_out"),
    [((), "torch"), (("curate",), "torch"), (("data", "convert", "folder"), "pytorch_lightning")],
)
def test_help_does_not_wait_for_packages(words: tuple[str, ...], left_out: str) -> None:
    code = (
        "import sys; from lightning_emseg.commands import main\n"
        f"try: main([*{words!r}, '--help'])\n"
        f"finally: print('imported', {left_out!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("imported False\n"), done.stdout + done.stderr


def test_a_word_that_is_no_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser_for(["data", "conbert"]).parse_args(["data", "conbert"])
    assert "'conbert' (choose from 'convert', 'synthesize'" in capsys.readouterr().err


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="defines no function nothing"):
        assert Command("lightning_emseg.commands.data", "nothing").summary
    with pytest.raises(ModuleNotFoundError, match="no file of lightning_emseg"):
        assert Command("lightning_emseg.none", "nothing").summary
