"""The table of trials: what is printed, what the CSV holds, and where scores are found."""

import csv
from pathlib import Path
from typing import Any

from lightning_emseg.sweeps.table import table_text, write_table
from lightning_emseg.sweeps.tiny import tiny
from lightning_emseg.sweeps.trials import Outcome, last_values


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


def test_the_last_value_of_each_column_counts(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,val/f1,train/loss\n0,,3.5\n1,0.25,\n2,,2.5\n3,0.75,\n")
    assert last_values(tmp_path / "metrics.csv") == {"step": 3, "val/f1": 0.75, "train/loss": 2.5}
    assert last_values(tmp_path / "none.csv") == {}


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


def test_nothing_is_set_that_a_sweep_does_not_have(tmp_path: Path) -> None:
    plain = tiny({"model.init_args.encoder": "resnet18"}, tmp_path, tmp_path)
    assert not [name for name in plain if name.startswith(("model.", "trainer.callbacks"))]
    callbacks = tiny({"trainer.callbacks.init_args.method.init_args.steps": 5}, tmp_path, tmp_path)
    assert callbacks["trainer.callbacks.init_args.per_outcome"] == 1
    weights = tiny({"model.init_args.encoder_weights": "imagenet"}, tmp_path, tmp_path)
    assert weights["model.init_args.encoder_weights"] == "null"
