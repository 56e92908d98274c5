"""The entry point of `emseg`: how options are written, help, and readers that leave."""

import os
from pathlib import Path

import pytest

from lightning_emseg.commands import main, normalised


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
    assert normalised(given) == expected


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
