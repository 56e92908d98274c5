"""Trials, the network that they need, and their scores in logs."""

from pathlib import Path

from lightning_emseg.sweeps.definition import Sweep
from lightning_emseg.sweeps.trials import last_values, run_trials


def test_network_to_validate_is_trained_first(tmp_path: Path) -> None:
    note = ["sh", "-c", f'echo "$*" >> {tmp_path}/calls.txt', "lightning"]
    content = {"method": "grid", "parameters": {"model.depth": {"values": [5]}}, "command": [*note, "test", "${args}"]}
    (outcome,) = run_trials(Sweep(tmp_path / "mine.yaml", content), 1, 0, tmp_path / "tiny.zarr", tmp_path)
    assert (outcome.status, outcome.parameters) == (0, {"model.depth": 5})
    trained, tested = (call.split() for call in (tmp_path / "calls.txt").read_text().splitlines())
    assert trained[0] == "fit"
    assert tested[0] == "test"
    assert f"--data.store={tmp_path}/tiny.zarr" in {*trained} & {*tested}
    # What is swept belongs to the trial, and the network is the same for all trials.
    assert "--model.depth=5" in {*tested} - {*trained}
    weights = next(word.partition("=")[2] for word in trained if word.startswith("--checkpoint.dirpath="))
    assert f"--ckpt_path={weights}/best.ckpt" in tested


def test_the_last_value_of_each_column_counts(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,val/f1,train/loss\n0,,3.5\n1,0.25,\n2,,2.5\n3,0.75,\n")
    assert last_values(tmp_path / "metrics.csv") == {"step": 3, "val/f1": 0.75, "train/loss": 2.5}
    assert last_values(tmp_path / "none.csv") == {}
