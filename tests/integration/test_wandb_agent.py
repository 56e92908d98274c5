"""`wandb agent`, the real client, starts trials of our sweeps; a stand-in answers for W&B's server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_modules.synthetic.mosaic import synthesize
from tests.support.trials import sweep_over
from tests.support.wandb_server import RemoteRun, Server, serving

EXPERIMENT = """
model: {class_path: VanillaUNet, init_args: {base_channels: 4, depth: 2}}
data: {class_path: Mosaic, init_args: {store: tiny.zarr, patch_size: 64, overlap: 0.0, patches_per_epoch: 4}}
trainer: {accelerator: cpu, max_epochs: 1, num_sanity_val_steps: 0, enable_progress_bar: false}
"""
STEPS = "trainer.callbacks.init_args.method.init_args.steps"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a tiny experiment and its store."""
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    synthesize(tmp_path / "tiny.zarr", train=("128x128",), val=("64x64",), test=("64x64",), pixel_size_nm=12.0)
    return tmp_path


def run_trial(sweep: dict[str, Any], folder: Path, trial: str, values: dict[str, Any]) -> RemoteRun:
    """Have an agent ask for one trial and run it; returns what the server was told of it."""
    arguments = {name: {"value": value} for name, value in values.items()}
    command = {"id": "c0", "type": "run", "run_id": trial, "program": sweep["program"], "args": arguments}
    bin_folder = Path(sys.executable).parent
    with serving(Server(sweep, [command])) as server:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "0",
        }
        words = [str(bin_folder / "wandb"), "agent", "--count", "1", "us/lightning-emseg/s1"]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"SweepWithRuns", "CreateAgent", "Heartbeat"} <= {name for name, _ in server.asked}
    assert trial in server.runs, done.stdout[-2000:] + done.stderr[-3000:]
    return server.runs[trial]


@pytest.mark.slow
def test_agent_starts_command_with_values_of_trial(folder: Path) -> None:
    loss = {"class_path": "lightning_emseg.losses.TverskyLoss", "init_args": {"alpha": 0.2}}
    values = {"model.init_args.loss": json.dumps(loss), "seed_everything": 2}
    trial = run_trial(sweep_over("loss", folder / "e.yaml"), folder, "trial7", values)
    run = folder / "runs" / "sweeps" / "trial7"
    assert (run / "checkpoints" / "last.ckpt").is_file()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["loss"]["class_path"] == loss["class_path"]
    assert config["model"]["init_args"]["loss"]["init_args"]["alpha"] == 0.2
    assert config["seed_everything"] == 2
    # The trial's run is the one that the sweep knows; W&B names it.
    assert (trial.said["sweep"], trial.said.get("groupName"), trial.said.get("displayName")) == ("s1", None, None)
    assert any("val_tiles/f1" in line for line in trial.history()), "the score that the sweep is about"
    assert json.loads((run / "wandb.json").read_text())["id"] == "trial7"
    # The sweep of attributions validates what was trained.
    sweep = sweep_over("attribution", folder / "e.yaml")
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    sweep["command"] = [checkpoint if word.endswith("best.ckpt") else word for word in sweep["command"]]
    judged = run_trial(sweep, folder, "trial8", {STEPS: 3})
    config = yaml.safe_load((folder / "runs" / "sweeps" / "trial8" / "config-validate.yaml").read_text())
    assert config["trainer"]["callbacks"][-1]["init_args"]["method"]["init_args"]["steps"] == 3
    assert any("val/f1" in line for line in judged.history())
