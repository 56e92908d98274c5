"""The table of trials: what is printed, and what the CSV holds."""

import csv
from pathlib import Path
from typing import Any

from lightning_emseg.sweeps.table import table_text, write_table
from lightning_emseg.sweeps.trials import Outcome


def _outcome(**changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "sweep": "loss",
        "trial": 0,
        "parameters": {"model.init_args.loss": '{"class_path": "a.b.DiceLoss"}'},
        "used": {"model.init_args.loss": '{"class_path": "a.b.DiceLoss"}'},
        "status": 0,
        "seconds": 12.3,
        "metric": "val_tiles/f1",
        "scores": {"val_tiles/f1": 0.25, "val/f1": 0.5, "train/loss": 3.0},
        "log": Path("log.txt"),
    }
    return Outcome(**{**values, **changes})


def test_a_row_shows_values_scores_and_failure() -> None:
    other = {"model.init_args.encoder_weights": "imagenet"}
    outcomes = [
        _outcome(),
        _outcome(trial=1, status=2, scores={}),
        _outcome(sweep="transfer", parameters=other, used={"model.init_args.encoder_weights": "null"}, metric=None),
    ]
    head, first, second, third = table_text(outcomes).splitlines()
    assert head.split()[:3] == ["sweep", "trial", "values"]
    assert first.split() == ["loss", "0", "loss", "DiceLoss", "0.5", "val_tiles/f1", "0.25", "12", "ok"]
    assert second.split()[-5:] == ["val_tiles/f1", "–", "12", "failed", "(2)"]
    # What was not run as drawn says so.
    assert "encoder_weights imagenet (here null)" in third


def test_the_csv_has_every_parameter_and_validation_score(tmp_path: Path) -> None:
    outcomes = [_outcome(), _outcome(sweep="unet", parameters={"x.lr": 0.1}, used={"x.lr": 0.1}, metric=None)]
    write_table(tmp_path / "t.csv", outcomes)
    with (tmp_path / "t.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["parameter:model.init_args.loss"] == '{"class_path": "a.b.DiceLoss"}'
    assert (first["metric"], first["value"], first["val/f1"]) == ("val_tiles/f1", "0.25", "0.5")
    assert "train/loss" not in first
    assert (second["parameter:x.lr"], second["parameter:model.init_args.loss"], second["value"]) == ("0.1", "", "")
