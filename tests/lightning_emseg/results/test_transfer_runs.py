"""Tables of transfer benchmarks that cannot be read."""

import json
import math
from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.results.transfer_runs import Term, UnusableError, read_run, read_table
from tests.support.transfer_runs import change_config, write_run


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "cannot be read"),
        ("a: 1", "has to have the keys"),
        ("{benchmarks: [], tables: {t: {}}}", "needs title, runs, columns and rows"),
        ("{benchmarks: [], tables: {other: {}}}", "has no table 't'; it has other"),
        ("{benchmarks: [{name: a}], tables: {t: {}}}", "lacks something"),
        ("{benchmarks: [{name: a, title: A, stroe: b}], tables: {t: {}}}", "should be a mapping with some of the keys"),
        ("{benchmarks: [{name: a, title: A}], tables: {t: {}}}", "needs either a store"),
        (
            "{benchmarks: [{name: a, title: A, parts: [b]}], tables: {t: {title: T, runs: 1, columns: [], rows: []}}}",
            "there are no benchmarks b",
        ),
        (
            "{benchmarks: [{name: a, title: A, store: a}], tables: {t: {title: T, runs: 1, columns: [],"
            " rows: [{benchmark: a, iterations: 1, paper: {x: 0.5}}]}}}",
            "there are no columns x",
        ),
        (
            "{benchmarks: [{name: a, title: A, store: a}, {name: a, title: B, store: b}],"
            " tables: {t: {title: T, runs: 1, columns: [], rows: []}}}",
            "names a twice",
        ),
    ],
)
def test_rows_that_cannot_be_read_say_why(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=told):
        read_table(path, "t")


def test_number_of_steps_may_come_from_log(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.5, steps=150)
    change_config(folder, "trainer", max_steps=-1)
    assert read_run(folder).iterations == 150
    (folder / "metrics.csv").unlink()
    with pytest.raises(UnusableError, match="nothing says how many steps"):
        read_run(folder)
    change_config(folder, "trainer", max_steps=70)
    assert read_run(folder).iterations == 70


def test_mosaics_without_a_score_do_not_count(tmp_path: Path) -> None:
    rows: dict[str, dict[str, float | None]] = {"test/a": {"mitochondrion_iou_at_0.5": 0.4}}
    run = read_run(write_run(tmp_path / "a", {**rows, "test/b": {"mitochondrion_iou_at_0.5": None}}))
    assert run.score() == 0.4
    with pytest.raises(UnusableError, match=r"no column labelled_objects_iou_at_0\.5; test it with the metric"):
        run.score([Term("labelled_objects_iou_at_0.5")])
    with pytest.raises(UnusableError, match=r"no test mosaic named guay\*"):
        run.score([Term("mitochondrion_iou", "guay*")])


def test_scores_with_nan_are_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.5)
    scores = json.loads((folder / "scores-test.json").read_text())
    (folder / "scores-test.json").write_text(json.dumps({**scores, "threshold": math.nan}))
    assert read_run(folder).score() == 0.5
