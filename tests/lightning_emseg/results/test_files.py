"""Files of runs."""

from pathlib import Path

import pytest

from lightning_emseg.results.files import RunFileError, read_file, read_log, read_object
from tests.support.example_run import write_run


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match=r"has no a\.json: run `lightning test`"):
        read_file(tmp_path / "a.json", read_object, "run `lightning test`")
    for name in ("a.json", "a.yaml"):
        (tmp_path / name).write_text("[1]")
        with pytest.raises(RunFileError, match=r"a\.\w+ is damaged .*expected an object, found list.*: run it again"):
            read_file(tmp_path / name, read_object, "run it again")


def test_log_curves_are_named_by_their_source(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    curves = {(curve.quantity, curve.source): curve for curve in read_log(folder / "metrics.csv")}
    assert set(curves) == {
        ("loss", "training patches"),
        ("f1", "validation, whole mosaics"),
        ("f1", "validation tiles"),
        ("loss", "validation tiles"),
    }
    whole = curves["f1", "validation, whole mosaics"]
    assert list(whole.step) == [9, 19, 29, 39, 49]
    assert list(whole.se) == [0.01] * 5
    assert curves["loss", "training patches"].value == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
