"""Commands are found by name, and nobody waits for those that are not called."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lightning_emseg.commands.parser import parser_for
from lightning_emseg.commands.tree import COMMANDS, Command, Tree


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
