"""The table of scores, its curves and its summary."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from lightning_emseg.core.tables import MeanSE, json_text, read_csv, write_json
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.score_table import Row, ScoreTable
from lightning_emseg.metrics.pixels import Counts, mean_curves
from tests.support.noisy_pixels import histograms, noisy_mosaics


def _rows(keys: list[str], counts: Counts, label: str, level: int) -> Mapping[str, Row]:
    return Evaluator().table(keys, counts, label, level, "fixed").rows


def test_rows_are_the_scores_of_each_mosaic() -> None:
    mosaics = noisy_mosaics(3)
    rows = _rows(["a", "b", "c"], histograms(mosaics), "membrane", 100)
    for (probability, truth), row in zip(mosaics, rows.values(), strict=True):
        assert row["membrane_f1"] == pytest.approx(f1_score(truth, probability >= 100))
        assert row["membrane_f1_at_0.5"] == pytest.approx(f1_score(truth, probability >= 128))
        assert row["background_f1"] == pytest.approx(f1_score(truth, probability >= 100, pos_label=0))
        assert row["membrane_average_precision"] == pytest.approx(average_precision_score(truth, probability))
        assert row["membrane_roc_auc"] == pytest.approx(roc_auc_score(truth, probability))
        assert row["tp"] == np.sum((truth == 1) & (probability >= 100))
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == truth.size


def test_curves_are_means_over_mosaics() -> None:
    mosaics, curves = noisy_mosaics(3), mean_curves(histograms(noisy_mosaics(3)))
    for level in (1, 100, 200, 255):
        for name, score in (("mean_f1", f1_score), ("mean_precision", precision_score), ("mean_recall", recall_score)):
            values = [score(truth, probability >= level, zero_division=1.0) for probability, truth in mosaics]
            assert curves[name][level] == pytest.approx(np.mean(values), abs=1e-12)
    assert mean_curves(np.zeros((0, 2, 256), np.int64)) == {"mean_f1": [], "mean_precision": [], "mean_recall": []}


def test_infinite_distances_count_in_the_mean() -> None:
    # Nothing was predicted in the second mosaic: its distance to the truth has no end, and is no reason to forget it.
    rows = {"test/a": {"membrane_f1": 0.5, "assd_nm": 3.0}, "test/b": {"membrane_f1": 0.0, "assd_nm": math.inf}}
    table = ScoreTable("membrane", 0.5, "fixed", rows, {})
    assert table.summary["assd_nm"] == MeanSE(math.inf, None, 2)
    content = json.loads(json_text(table.to_json()))
    assert content["mosaics"]["test/b"]["assd_nm"] is None
    assert content["mean"]["assd_nm"] is None
    assert content["mosaics"]["test/a"]["assd_nm"] == 3


def test_table_as_json_and_text() -> None:
    counts = histograms(noisy_mosaics(2))
    rows = _rows(["test/a", "test/b"], counts, "membrane", 100)
    table = ScoreTable("membrane", 100 / 255, "mean_f1", rows, mean_curves(counts), {"test/c": (5, 9)})
    content = json.loads(json_text(table.to_json()))
    values = [row["membrane_f1"] for row in rows.values()]
    assert content["mean"]["membrane_f1"] == pytest.approx(np.mean(values), abs=1e-15)
    assert content["se"]["membrane_f1"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(2), abs=1e-15)
    assert list(content["mosaics"]) == ["test/a", "test/b"]
    assert len(content["f1_by_threshold"]["mean_f1"]) == 256
    assert content["partial"] == {"test/c": {"pixels_seen": 5, "pixels": 9}}
    text = table.text()
    assert f"{np.mean(values):.4f} ± " in text
    assert "test/c: not scored, 5 of 9 pixels seen" in text


def test_scores_that_are_no_number_become_null() -> None:
    # NaN is no JSON: other programs than Python's own reader stumble over it.
    rows = _rows(["test/a"], histograms([(np.zeros(4, np.uint8), np.zeros(4, np.uint8))]), "membrane", 128)
    table = ScoreTable("membrane", 0.5, "fixed", rows, {})
    content = json.loads(json_text(table.to_json()))
    assert content["mosaics"]["test/a"]["membrane_average_precision"] is None
    assert content["mean"]["membrane_average_precision"] is None


def test_files_bring_back_the_same_table(tmp_path: Path) -> None:
    counts = histograms(noisy_mosaics(2))
    rows = _rows(["test/a", "test/b"], counts, "membrane", 100)
    table = ScoreTable("membrane", 100 / 255, "mean_f1", rows, mean_curves(counts), {"test/c": (5, 9)})
    write_json(tmp_path / "scores.json", table.to_json())
    assert ScoreTable.read(tmp_path / "scores.json") == table
    table.write_csv(tmp_path / "scores.csv")
    for record in read_csv(tmp_path / "scores.csv"):
        assert float(record["membrane_recall"]) == rows[record["mosaic"]]["membrane_recall"]
        assert float(record["threshold"]) == table.threshold


def test_absent_scores_are_read_as_nan(tmp_path: Path) -> None:
    table = ScoreTable("mean", math.nan, "classes as predicted", {"a": {"mean_f1": math.nan}})
    write_json(tmp_path / "scores.json", table.to_json())
    found = ScoreTable.read(tmp_path / "scores.json")
    assert math.isnan(found.threshold)
    assert math.isnan(found.rows["a"]["mean_f1"])
    assert found.text().splitlines()[-1] == "classes as predicted"
