"""Mean and standard error, and files and text of tables."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_emseg.core.tables import align, json_text, mean_se, read_csv, write_csv, write_json


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_mean_and_standard_error(values: list[float]) -> None:
    found = mean_se(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    # ddof 1, written out.
    variance = sum((value - sum(values) / len(values)) ** 2 for value in values) / (len(values) - 1)
    assert found.se == pytest.approx(math.sqrt(variance / len(values)), abs=1e-12)
    assert found.n == len(values)


def test_missing_values_do_not_count() -> None:
    assert mean_se([0.25]).se is None
    assert str(mean_se([0.25])) == "0.2500"
    assert mean_se([0.25, math.nan]).n == 1
    assert math.isnan(mean_se([math.nan]).mean)


def test_csv_keeps_full_precision_and_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    records = [{"key": "a, b", "x": 1 / 3, "n": 2}, {"key": "c", "x": np.float64(0.1), "n": None}]
    write_csv(path, records)
    assert [float(row["x"]) for row in read_csv(path)] == [1 / 3, 0.1]
    assert read_csv(path)[1] == {"key": "c", "x": "0.1"}
    write_csv(path, [{"key": "d", "x": math.nan, "n": 1, "more": 0}], ["key", "x", "n"], append=True)
    assert path.read_text().splitlines() == ["key,x,n", f'"a, b",{1 / 3!r},2', "c,0.1,", "d,nan,1"]
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_failed_writing_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, [{"a": 1}])
    with pytest.raises(KeyError):
        write_csv(path, [{"a": 2}, {"b": 3}])
    assert read_csv(path) == [{"a": "1"}]
    write_csv(tmp_path / "none.csv", [])
    assert not (tmp_path / "none.csv").exists()


def test_json_is_valid_whatever_the_numbers(tmp_path: Path) -> None:
    content = {"ä": [math.nan, math.inf, np.float32(0.5), np.int64(3)], "n": (1, None, "x")}
    write_json(tmp_path / "c.json", content)
    assert json.loads((tmp_path / "c.json").read_text()) == {"ä": [None, None, 0.5, 3], "n": [1, None, "x"]}
    assert "ä" in json_text(content)


def test_columns_are_aligned() -> None:
    assert align([["mosaic", "f1"], ["a", "0.5000"]]).splitlines() == ["mosaic      f1", "a       0.5000"]
