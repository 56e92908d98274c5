"""Where the threshold of a comparison comes from."""

import math
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from lightning_emseg.core.tables import write_json
from lightning_emseg.evaluation.pair_scores import find_default_threshold, parse_threshold, sweep_threshold
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.evaluation.sources import ScoredImage
from lightning_emseg.metrics.pixels import Counts
from tests.support import tiny


def of(threshold: tuple[float, str] | None = None) -> ScoredImage:
    return ScoredImage("a", "a", "a", (1,), "probability", lambda: np.zeros(1, np.uint8), threshold=threshold)


def counts() -> Counts:
    """Two images whose pixels a threshold of 60 to 80 tells apart."""
    made = np.zeros((2, 2, 256), np.int64)
    made[:, 0, [10, 59]] = 5
    made[:, 1, [80, 200]] = 3
    return made


@pytest.mark.parametrize(("given", "level"), [("0.5", 128), ("1", 255), ("0.001", 1), (".2", 51)])
def test_numbers(given: str, level: int) -> None:
    assert parse_threshold(given) == (level, "given")


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "nan", "best", ""])
def test_impossible_thresholds_are_refused(given: str) -> None:
    with pytest.raises(UserError, match=r"--threshold .*sweep, or run:"):
        parse_threshold(given)


def test_sweep_finds_the_best_and_says_so() -> None:
    assert parse_threshold("sweep") is None
    found = sweep_threshold(counts())
    assert 60 <= found[0] <= 80
    assert "scored images themselves" in found[1]


def test_default_is_what_the_predictions_record() -> None:
    recorded = of((90 / 255, "mean_f1 on val"))
    assert parse_threshold(None) is None
    assert find_default_threshold([recorded], False) == (90, "mean_f1 on val; recorded by the predictions")
    assert find_default_threshold([of()], False) == (128, "default")
    assert find_default_threshold([of()], True)[1].startswith("the predictions are binary")
    for other in (of(), of((91 / 255, "x"))):
        with pytest.raises(UserError, match="record different thresholds, or none: pass --threshold"):
            find_default_threshold([recorded, other], False)


def test_runs_give_tested_thresholds_before_checkpoints(tmp_path: Path) -> None:
    module = tiny.GreyModule()
    module.threshold.fill_(77 / 255)
    module.threshold_source = "mean_f1 on validation"
    trainer = tiny.quiet_trainer(tmp_path)
    trainer.strategy.connect(module)
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    trainer.save_checkpoint(checkpoint, weights_only=True)
    expected = (77, f"mean_f1 on validation; from {checkpoint}")
    assert parse_threshold(f"run:{tmp_path}") == parse_threshold(f"run:{checkpoint}") == expected
    scores = tmp_path / "scores-test.json"
    write_json(scores, ScoreTable("membrane", 40 / 255, "c", {}).to_json())
    assert parse_threshold(f"run:{tmp_path}") == (40, f"c; from {scores}")


def test_a_run_without_a_threshold_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*scores-test\.json and no .*best\.ckpt"):
        parse_threshold(f"run:{tmp_path}")
    (tmp_path / "scores-test.json").write_text("{}")
    with pytest.raises(UserError, match="is no score file of a run"):
        parse_threshold(f"run:{tmp_path}")
    write_json(tmp_path / "scores-test.json", ScoreTable("mean", math.nan, "most probable", {}).to_json())
    with pytest.raises(UserError, match=r"is no score file of a run .*threshold is null"):
        parse_threshold(f"run:{tmp_path}")
    (tmp_path / "c.ckpt").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        parse_threshold(f"run:{tmp_path / 'c.ckpt'}")
