"""Training logs of the report."""

from pathlib import Path

import pytest

from lightning_emseg.report.page.training_log import read_log
from tests.support.example_run import write_run


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
