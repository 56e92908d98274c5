"""`emseg sweep-smoke`: trials of a sweep run offline on tiny crops, and one table of them."""

import csv
from pathlib import Path

import pytest
import yaml

from lightning_emseg.commands import main
from tests.support import ROOT

EXPERIMENT = """
model: {class_path: VanillaUNet, init_args: {base_channels: 4, depth: 2}}
data: {class_path: Mosaic, init_args: {store: none.zarr}}
trainer: {callbacks+: [{class_path: AttributionFields, init_args: {method: {class_path: IntegratedGradients}}}]}
"""
STEPS = "trainer.callbacks.init_args.method.init_args.steps"


def _sweep(folder: Path, verb: str, name: str, values: list[float], command: list[str] | None = None) -> Path:
    """A sweep over a tiny network, whose command is that of a shipped one unless another is given."""
    content = yaml.safe_load((ROOT / "experiments" / "sweeps" / "attribution.yaml").read_text())
    (folder / "e.yaml").write_text(EXPERIMENT)
    content["parameters"] = {name: {"values": values}}
    before = content["command"][: content["command"].index("validate")]
    wandb = str(ROOT / "experiments" / "with" / "wandb.yaml")
    words = [*before, verb, "--config", "e.yaml", "--config", wandb, "--ckpt_path", "null", "${args}"]
    content["command"] = words if command is None else [*command, verb, "${args}"]
    path = folder / f"{verb}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_trials_run_on_weights_trained_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _sweep(tmp_path, "validate", STEPS, [3, 4])
    main(["sweep-smoke", "validate.yaml", "--out", "out"])
    printed = capsys.readouterr().out
    rows = _rows(tmp_path / "out" / "trials.csv")
    assert {row[f"parameter:{STEPS}"] for row in rows} == {"3", "4"}
    assert all(float(row["val/f1"]) >= 0 and float(row["value"]) >= 0 for row in rows)
    # Both judged the same network, by different numbers of steps.
    assert rows[0]["val/f1"] == rows[1]["val/f1"]
    assert rows[0]["value"] != rows[1]["value"]
    for number, row in enumerate(rows):
        assert f"steps {row[f'parameter:{STEPS}']}" in printed
        run = tmp_path / "out" / "runs" / "sweeps" / f"validate-{number}"
        config = yaml.safe_load((run / "config-validate.yaml").read_text())
        method = config["trainer"]["callbacks"][-1]["init_args"]["method"]
        assert method["init_args"]["steps"] == int(row[f"parameter:{STEPS}"])
        assert list((tmp_path / "out" / "runs" / "wandb").glob(f"offline-run-*-validate-{number}"))


def test_failed_trial_is_told_and_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails_below_0 = ["sh", "-c", 'case "$*" in *depth=-1*) exit 3;; esac', "trial"]
    _sweep(tmp_path, "fit", "model.init_args.depth", [2, -1], fails_below_0)
    with pytest.raises(SystemExit) as caught:
        main(["sweep-smoke", "fit.yaml", "--out", "out"])
    rows = {row["parameter:model.init_args.depth"]: row for row in _rows(tmp_path / "out" / "trials.csv")}
    assert rows["2"]["status"] == "0"
    assert rows["-1"]["status"] == "3"
    assert f"fit-{rows['-1']['trial']}.txt" in str(caught.value.code)
    assert "1 of 2 trials failed" in str(caught.value.code)


def test_folder_with_other_files_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _sweep(tmp_path, "fit", "model.init_args.depth", [2])
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SystemExit, match=r"mine\.txt|e\.yaml|fit\.yaml"):
        main(["sweep-smoke", str(path), "--out", str(tmp_path)])
    assert (tmp_path / "mine.txt").read_text() == "keep"
    with pytest.raises(SystemExit, match="at least 1"):
        main(["sweep-smoke", str(path), "--trials", "0"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="there are no sweeps"):
        main(["sweep-smoke", str(tmp_path / "empty")])
