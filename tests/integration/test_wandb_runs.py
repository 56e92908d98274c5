"""Runs in W&B: one for every training, whatever its stops, its ranks, and whether it is sent at once or later."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from pytorch_lightning.loggers import WandbLogger

from data_modules.errors import UserError
from lightning_emseg.callbacks.run_folder import keep_wandb_run
from tests.support import ROOT
from tests.support.interrupted import STOP
from tests.support.processes import run_lightning_of_user
from tests.support.wandb_server import Content, RemoteRun, Server, serving

WANDB = ROOT / "experiments" / "with" / "wandb.yaml"


def told(folder: Path, resumed: bool, **given: Any) -> Content:
    """What a logger would begin its run with."""
    logger = WandbLogger(save_dir=folder, **given)
    keep_wandb_run(pl.Trainer(logger=logger, default_root_dir=folder, accelerator="cpu"), resumed)
    return {key: logger._wandb_init.get(key) for key in ("id", "name", "group", "resume")}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    return tmp_path / "isbi"


def test_only_resumed_runs_keep_their_names(run: Path) -> None:
    first = told(run, resumed=False, resume=None)  # as the command line makes it
    assert first["name"] == first["group"] == "isbi"
    assert first["resume"] == "allow"
    assert told(run, resumed=True) == first
    anew = told(run, resumed=False)
    assert anew["id"] != first["id"]
    assert anew["group"] == first["group"]
    assert told(run, resumed=True) == anew


def test_run_resumed_from_another_folder_is_new(run: Path) -> None:
    first = told(run, resumed=False)
    assert told(run.parent / "finer", resumed=True)["id"] != first["id"]


def test_names_given_at_the_start_are_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as start:
        start.setenv("WANDB_RUN_GROUP", "paper")
        told(run, resumed=False, name="ours", id="mine")
    assert told(run, resumed=True) == {"id": "mine", "name": "ours", "group": "paper", "resume": "allow"}
    # Said again, and otherwise, it holds from then on.
    told(run, resumed=True, group="thesis")
    assert told(run, resumed=True)["group"] == "thesis"


def test_resumed_trial_keeps_the_id_of_its_agent(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as agent:
        agent.setenv("WANDB_RUN_ID", "trial7")
        agent.setenv("WANDB_SWEEP_ID", "s1")
        # W&B reads the id from the environment, and warns of one that is passed on to it.
        assert told(run, resumed=False) == {"id": None, "name": None, "group": None, "resume": "allow"}
    assert told(run, resumed=True)["id"] == "trial7"


@pytest.mark.parametrize("content", ["", "[]", '{"id": "a"}'])
def test_file_without_a_run_is_refused_by_name(run: Path, content: str) -> None:
    run.mkdir()
    (run / "wandb.json").write_text(content)
    with pytest.raises(UserError, match=r"isbi/wandb\.json does not name"):
        told(run, resumed=True)


def test_runs_without_wandb_leave_no_file(run: Path) -> None:
    keep_wandb_run(pl.Trainer(logger=False, default_root_dir=run, accelerator="cpu"), resumed=False)
    assert not run.exists()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as started:
        yield started


def experiment(folder: Path, store: Path) -> None:
    """``folder/e.yaml``: 3 epochs of 4 batches, with pictures and, after every second epoch, attribution fields."""
    fields = {"per_outcome": 1, "windows": 1, "window": 64, "check": 1, "every_n_epochs": 2, "max_share": None}
    method = {"class_path": "IntegratedGradients", "init_args": {"steps": 2, "reach": 9}}
    more = [
        {"class_path": "tests.support.interrupted.Struck"},
        {"class_path": "AttributionFields", "init_args": {**fields, "method": method}},
    ]
    sizes = {"patch_size": 64, "batch_size": 1, "patches_per_epoch": 4, "val_tiles": 2, "overlap": 0.0}
    content: Content = {
        "model": {"class_path": "VanillaUNet", "init_args": {"base_channels": 4, "depth": 2}},
        "data": {"class_path": "Mosaic", "init_args": {"store": str(store), **sizes}},
        "trainer": {"accelerator": "cpu", "max_epochs": 3, "log_every_n_steps": 1, "num_sanity_val_steps": 0},
    }
    content["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False, "callbacks+": more}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "e.yaml").write_text(yaml.safe_dump(content))


def settings(folder: Path, server: Server) -> dict[str, str]:
    """Environment variables of a client whose only W&B is the stand-in."""
    client = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "0"}
    return {**client, "HOME": str(folder)}


# Goes on with `isbi` if it has a checkpoint, as a job that is queued again does.
FIT = ["fit", "--config", "e.yaml", "--config", str(WANDB), "--ckpt_path", "last", "--trainer.default_root_dir", "isbi"]


def place_of(folder: Path, server: Server, mode: str, stop: str = "") -> dict[str, str]:
    """Environment variables of a fit."""
    # In seconds; by default a run that is killed loses up to 15.
    often = {"WANDB__TRANSACTION_LOG_FLUSH_INTERVAL": "0.2"}
    return {**often, "WANDB_MODE": mode, STOP: stop, **settings(folder, server)}


def fit(folder: Path, server: Server, mode: str, ranks: int, stop: str = "") -> int:
    """Run a fit as a user starts it; returns the exit status of the first rank.

    Only such a process ends W&B's client before itself, so that the client has written all that it was told.
    """
    return run_lightning_of_user(FIT, ranks, folder, place_of(folder, server, mode, stop)).returncode


def check(run: RemoteRun, folder: Path, stopped: int) -> None:
    """Of a run of twelve steps that was stopped after a step: all of it arrived, under what its folder says."""
    kept = json.loads((folder / "isbi" / "wandb.json").read_text())
    assert kept == {"id": run.id, "name": "isbi", "group": "isbi"}
    assert (run.said["displayName"], run.said["groupName"]) == ("isbi", "isbi")
    assert run.said["project"] == "lightning-emseg"
    assert run.config()["base_channels"] == 4
    history = run.history()
    order = [line["_step"] for line in history]
    assert order == list(range(len(order))), "what goes back in W&B's own count is dropped"
    losses = [line["trainer/global_step"] for line in history if "train/loss_step" in line]
    # Lightning logs a step after the callbacks, one of which has stopped the run.
    assert set(losses) == set(range(12)) - {stopped}, losses
    pictures = [name for line in history for name in (line.get("validation") or {}).get("filenames", [])]
    assert len(pictures) >= 3
    tables = [line["attribution/points"]["path"] for line in history if "attribution/points" in line]
    fields = [name for line in history for name in (line.get("attribution") or {}).get("filenames", [])]
    assert tables
    assert fields
    assert {*pictures, *tables, *fields} <= set(run.files)
    table = json.loads(run.files[tables[0]])
    rows = (folder / "isbi" / "attribution" / "points-fit.csv").read_text().splitlines()
    assert table["columns"] == rows[0].split(",")
    assert len(table["data"]) <= len(rows) - 1


@pytest.mark.slow
def test_stopped_offline_run_is_one_run_when_sent(server: Server, tmp_path: Path, tiny_store: Path) -> None:
    experiment(tmp_path, tiny_store)
    assert fit(tmp_path, server, "offline", 1, "SIGTERM batch 3 0") == 143
    assert fit(tmp_path, server, "offline", 1, "SIGKILL batch 6 0") == -9
    assert fit(tmp_path, server, "offline", 1) == 0
    assert server.asked == [], "nobody was asked"
    parts = sorted((tmp_path / "runs" / "wandb").glob("offline-run-*"))
    assert len(parts) == 3
    send = [str(Path(sys.executable).parent / "wandb"), "sync", "runs/wandb"]
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**others, **settings(tmp_path, server)}
    done = subprocess.run(send, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = server.runs.values()
    assert {part.name.split("-")[-1] for part in parts} == {run.id}
    check(run, tmp_path, stopped=2)


@pytest.mark.slow
@pytest.mark.ddp
def test_one_of_two_ranks_talks_to_wandb(server: Server, tmp_path: Path, tiny_store: Path) -> None:
    experiment(tmp_path, tiny_store)
    content = yaml.safe_load((tmp_path / "e.yaml").read_text())
    content["data"]["init_args"]["patches_per_epoch"] = 8  # four steps of two ranks
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(content))
    assert fit(tmp_path, server, "online", 2, "SIGTERM batch 6 1") == 143
    assert server.begun == [next(iter(server.runs))]
    assert fit(tmp_path, server, "online", 2) == 0
    (run,) = server.runs.values()
    # A client asks after the run once, before it begins to send.
    assert server.begun == [run.id, run.id]
    assert len(list((tmp_path / "runs" / "wandb").glob("run-*"))) == 2
    check(run, tmp_path, stopped=5)
