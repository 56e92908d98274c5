"""`wandb agent`, the real client, starts our command with a sweep's values; a stand-in answers for W&B's server."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_modules.synthesize import synthesize
from lightning_emseg.sweeps.definition import read

ROOT = Path(__file__).parents[2]
RUN = "trial7"
TRIAL = {
    "model.init_args.loss": '{"class_path": "lightning_emseg.losses.TverskyLoss", "init_args": {"alpha": 0.2}}',
    "seed_everything": 2,
}


class Server(ThreadingHTTPServer):
    """Has one sweep and one trial of it, and keeps what it was asked."""

    def __init__(self, config: dict[str, Any], parameters: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.config = config
        self.commands: list[dict[str, Any]] = [
            {
                "id": "c0",
                "type": "run",
                "run_id": RUN,
                "program": config["program"],
                "args": {name: {"value": value} for name, value in parameters.items()},
            }
        ]
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What W&B's server says to an agent, as far as its client reads it."""
        name = next((each for each in ("SweepWithRuns", "CreateAgent", "Heartbeat") if each in query), "")
        self.asked.append((name or query, variables))
        if name == "SweepWithRuns":
            sweep = {"id": "s", "name": "s1", "config": yaml.safe_dump(self.config), "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if name == "CreateAgent":
            return {"createAgent": {"agent": {"id": "a1"}}}
        if name == "Heartbeat":
            commands = [self.commands.pop(0)] if self.commands else []
            return {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps(commands)}}
        return {
            "viewer": {"id": "u", "username": "u", "entity": "us", "email": "", "flags": "{}", "teams": {"edges": []}}
        }


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        self._reply({"data": self.server.answer(body.get("query", ""), body.get("variables") or {})})

    def do_GET(self) -> None:
        self._reply({})

    def _reply(self, content: dict[str, Any]) -> None:
        written = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


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
    started = Server({**sweep.config, "command": words}, TRIAL)
    thread = threading.Thread(target=started.serve_forever, daemon=True)
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


@pytest.mark.slow
def test_the_agent_of_wandb_starts_our_command_with_the_values_of_a_trial(server: Server, tmp_path: Path) -> None:
    synthesize(tmp_path / "tiny.zarr", train=("128x128",), val=("64x64",), test=("64x64",), pixel_size_nm=12.0)
    bin_folder = Path(sys.executable).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "WANDB_API_KEY": "0" * 40,
        # Of the trial: its log would need much more of the server than the agent does.
        "WANDB_MODE": "offline",
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
    # The run has the id that the server gave it, so that a later sync ends up in the sweep.
    assert len(list((tmp_path / "runs" / "wandb").glob(f"offline-run-*-{RUN}"))) == 1
