"""Files of image definition criteria."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_emseg.evaluation.score_table import ScoreTable, score_rows
from lightning_emseg.metrics.pixels import mean_curves
from lightning_emseg.results.files import read_log, read_quality, read_scores
from tests.support.example_run import score_row, write_quality, write_run, write_scores


def test_definitions_are_read(tmp_path: Path) -> None:
    write_quality(tmp_path / "quality")
    table = read_quality(tmp_path / "quality" / "quality.csv")
    assert table.name == "quality"
    assert table.criteria == ("brenner",)
    assert [(level.mosaic, level.level, level.size) for level in table.levels[:2]] == [
        ("test/a", "original", "64 × 64"),
        ("test/a", "1/2", "64 × 64"),
    ]
    assert [level.per_pixel["brenner"] for level in table.levels] == [8, 4, 8, 4]
    assert [level.ratio["brenner"] for level in table.levels] == [1, 0.5, 1, 0.5]


def test_empty_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "quality.csv").write_text("mosaic,level\n")
    with pytest.raises(ValueError, match="no rows"):
        read_quality(tmp_path / "quality.csv")


def test_scores_are_read_as_the_framework_writes_them(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (3, 2, 256)).astype(np.int64)
    rows = score_rows(["test/0", "test/1", "test/2"], counts, "membrane", 128)
    table = ScoreTable("membrane", 128 / 255, "by hand", rows, mean_curves(counts))
    (tmp_path / "scores-test.json").write_text(json.dumps(table.to_json()))
    scores = read_scores(tmp_path / "scores-test.json")
    assert scores.rows == rows
    assert scores.summary("membrane_f1") == table.summary["membrane_f1"]
    assert list(scores.curve.f1) == table.curves["mean_f1"]
    assert list(scores.curve.recall) == table.curves["mean_recall"]
    assert list(scores.curve.precision) == table.curves["mean_precision"]
    assert scores.main_columns[0] == "membrane_f1"
    assert not {"tp", "membrane_f1_at_0.5", "background_iou"} & set(scores.main_columns)


def test_undefined_scores_are_not_zeros(tmp_path: Path) -> None:
    write_scores(tmp_path, {"test/a": {**score_row(0.5), "v_rand": None}, "test/b": score_row(0.7)})
    scores = read_scores(tmp_path / "scores-test.json")
    assert "v_rand" in scores.main_columns
    assert scores.summary("v_rand").n == 1
    assert scores.summary("v_rand").mean == pytest.approx(0.35)


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
