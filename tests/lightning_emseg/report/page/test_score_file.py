"""Score files of the report."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_emseg.metrics.table import ScoreTable, mean_curves, score_rows
from lightning_emseg.report.page.score_file import read_scores
from tests.support.example_run import score_row, write_scores


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
