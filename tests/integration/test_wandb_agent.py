"""`wandb agent`, the real client, starts our command with a sweep's values; a stand-in answers for W&B's server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from data_modules.synthetic.mosaic import synthesize
from lightning_emseg.sweeps.definition import read
from tests.support import ROOT
from tests.support.wandb_server import Server, serving

RUN = "trial7"
TRIAL = {
    "model.init_args.loss": '{"class_path": "lightning_emseg.losses.TverskyLoss", "init_args": {"alpha": 0.2}}',
    "seed_everything": 2,
}


EXPERIMENT = """
model: {class_path: VanillaUNet, init_args: {base_channels: 4, depth: 2}}
data: {class_path: Mosaic, init_args: {store: tiny.zarr, patch_size: 64, overlap: 0.0, patches_per_epoch: 4}}
trainer: {accelerator: cpu, max_epochs: 1, num_sanity_val_steps: 0, enable_progress_bar: false}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Offers one trial of the shipped sweep of losses, over a tiny experiment."""
    sweep = read(ROOT / "experiments" / "sweeps" / "loss.yaml")
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    words = [str(tmp_path / "e.yaml") if word.endswith("unet.yaml") else word for word in sweep.config["command"]]
    words = [str(ROOT / word) if word.startswith("experiments/") else word for word in words]
    arguments = {name: {"value": value} for name, value in TRIAL.items()}
    command = {"id": "c0", "type": "run", "run_id": RUN, "program": sweep.config["program"], "args": arguments}
    with serving(Server({**sweep.config, "command": words}, [command])) as started:
        yield started


@pytest.mark.slow
def test_agent_starts_command_with_values_of_trial(server: Server, tmp_path: Path) -> None:
    synthesize(tmp_path / "tiny.zarr", train=("128x128",), val=("64x64",), test=("64x64",), pixel_size_nm=12.0)
    bin_folder = Path(sys.executable).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "0",
    }
    command = [str(bin_folder / "wandb"), "agent", "--count", "1", "us/lightning-emseg/s1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    asked = [name for name, _ in server.asked]
    assert {"SweepWithRuns", "CreateAgent", "Heartbeat"} <= set(asked)
    run = tmp_path / "runs" / "sweeps" / RUN
    assert (run / "checkpoints" / "last.ckpt").is_file(), done.stdout[-2000:] + done.stderr[-3000:]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["loss"]["class_path"] == "lightning_emseg.losses.TverskyLoss"
    assert config["model"]["init_args"]["loss"]["init_args"]["alpha"] == 0.2
    assert config["seed_everything"] == 2
    # The trial's run is the one that the sweep knows; W&B names it.
    trial = server.runs[RUN]
    assert (trial.said["sweep"], trial.said.get("groupName"), trial.said.get("displayName")) == ("s1", None, None)
    assert any("val_tiles/f1" in line for line in trial.history()), "the score that the sweep is about"
    assert json.loads((run / "wandb.json").read_text())["id"] == RUN
