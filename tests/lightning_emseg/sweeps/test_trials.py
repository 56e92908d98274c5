"""Scores of trials in their logs."""

from pathlib import Path

from lightning_emseg.sweeps.trials import last_values


def test_the_last_value_of_each_column_counts(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,val/f1,train/loss\n0,,3.5\n1,0.25,\n2,,2.5\n3,0.75,\n")
    assert last_values(tmp_path / "metrics.csv") == {"step": 3, "val/f1": 0.75, "train/loss": 2.5}
    assert last_values(tmp_path / "none.csv") == {}
