"""Tables of transfer benchmarks that cannot be read."""

import json
import math
from pathlib import Path

import pytest

from lightning_emseg.results.files import RunFileError
from lightning_emseg.results.papers import Term
from lightning_emseg.results.runs import read_run
from lightning_emseg.results.transfer_runs import TransferRun, make_transfer_run
from tests.support.transfer_runs import change_config, write_run


def read(folder: Path) -> TransferRun:
    return make_transfer_run(read_run(folder))


def test_number_of_steps_may_come_from_log(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.5, steps=150)
    change_config(folder, "trainer", max_steps=-1)
    assert read(folder).iterations == 150
    (folder / "metrics.csv").unlink()
    with pytest.raises(RunFileError, match="nothing says how many steps"):
        read(folder)
    change_config(folder, "trainer", max_steps=70)
    assert read(folder).iterations == 70


def test_mosaics_without_a_score_do_not_count(tmp_path: Path) -> None:
    rows: dict[str, dict[str, float | None]] = {"test/a": {"mitochondrion_iou_at_0.5": 0.4}}
    run = read(write_run(tmp_path / "a", {**rows, "test/b": {"mitochondrion_iou_at_0.5": None}}))
    assert run.score() == 0.4
    with pytest.raises(RunFileError, match=r"no column labelled_objects_iou_at_0\.5; test it with the metric"):
        run.score([Term("labelled_objects_iou_at_0.5")])
    with pytest.raises(RunFileError, match=r"no test mosaic named guay\*"):
        run.score([Term("mitochondrion_iou", "guay*")])


def test_scores_with_nan_are_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.5)
    scores = json.loads((folder / "scores-test.json").read_text())
    (folder / "scores-test.json").write_text(json.dumps({**scores, "threshold": math.nan}))
    assert read(folder).score() == 0.5
