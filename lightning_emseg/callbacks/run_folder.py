"""The run folder: what ran, with what, its W&B run, and nothing of an earlier run lost."""

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_info

from data_modules.errors import UserError
from lightning_emseg import __version__
from lightning_emseg.core.tables import write_json

_OF_A_FIT = ("config.yaml", "metrics.csv", "environment.json")
_OF_A_RUN = (
    *_OF_A_FIT,
    "checkpoints",
    "figures",
    "attribution",
    "errors-*",
    "bad-batch.*",
    "hpc_ckpt_*",
    "scores-*",
    "config-*.yaml",
    "environment-*.json",
    "wandb.json",
)


class RunFolder(pl.Callback):
    """Writes ``environment.json``, or ``environment-<verb>.json``, into the run folder."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file."""
        assert trainer.state.fn is not None
        if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
            folder = Path(trainer.default_root_dir)
            name = "environment.json" if stage == "fit" else f"environment-{trainer.state.fn.value}.json"
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / name, environment())


def make_room(trainer: pl.Trainer, resumed: bool) -> None:
    """Put an earlier run in the same folder aside, into ``earlier/<n>/``.

    This cannot be a callback's work: before Lightning asks the first callback, its CSV logger has deleted the earlier
    log, and no callback is told yet whether the fit resumes.

    Args:
        trainer: About to fit.
        resumed: Whether checkpoints and figures stay, so that only the former log and config are put aside.
    """
    if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
        put_aside(Path(trainer.default_root_dir), _OF_A_FIT if resumed else _OF_A_RUN)


def put_aside(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """Move what an earlier run left into ``earlier/<n>/``.

    Returns:
        The new folder, or ``None`` where nothing was there.
    """
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    if not found:
        return None
    number = 1 + len(list((folder / "earlier").glob("*")))
    target = folder / "earlier" / str(number)
    target.mkdir(parents=True)
    for path in found:
        shutil.move(path, target / path.name)
    rank_zero_info(f"{folder} held an earlier run; it is now in {target}")
    return target


def environment() -> dict[str, Any]:
    """Versions, hardware, seed, command line and git state, JSON-ready."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "git": git_state(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {
            **{found.name: found.version for found in sorted(metadata.distributions(), key=lambda d: d.name)},
            "lightning-emseg": __version__,
        },
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether tracked files were changed, or ``None`` outside a repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (subprocess.SubprocessError, OSError):
        return None


_WANDB_FILE = "wandb.json"
_FROM_OUTSIDE = {"id": "WANDB_RUN_ID", "name": "WANDB_NAME", "group": "WANDB_RUN_GROUP"}


def keep_wandb_run(trainer: pl.Trainer, resumed: bool) -> None:
    """Give W&B loggers the id, name and group of the folder's run, kept in its ``wandb.json``.

    A run begun anew gets a new id, and both its name and its group are the folder's, unless W&B names it as a trial of
    a sweep. What the configuration or W&B's environment variables say comes first. As :func:`make_room`, this cannot be
    a callback's work: Lightning has W&B begin its run before it asks the first callback.

    Args:
        trainer: About to fit; nothing is done on ranks other than 0, which never talk to W&B.
        resumed: Whether the fit goes on from a checkpoint, so that the run of the same folder is continued.

    Raises:
        UserError: if the file of a run to be resumed cannot be read.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    if not loggers or not trainer.is_global_zero:
        return
    folder = Path(trainer.default_root_dir)
    path = folder / _WANDB_FILE
    called = None if os.environ.get("WANDB_SWEEP_ID") else folder.resolve().name
    kept = {"id": secrets.token_hex(4), "name": called, "group": called}
    if resumed and path.exists():
        try:
            found = json.loads(path.read_text())
            kept = {key: found[key] for key in _FROM_OUTSIDE}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} does not name the W&B run to continue: restore "
                '{"id": ..., "name": ..., "group": ...} from the address of the run, or move it away to begin a new run'
            ) from error
    for logger in loggers:
        said = logger._wandb_init
        # What nobody said otherwise.
        kept = {key: said.get(key) or os.environ.get(name) or kept[key] for key, name in _FROM_OUTSIDE.items()}
        # W&B warns of an id that is passed on in a sweep, even if it is the trial's.
        said.update({key: value for key, value in kept.items() if not os.environ.get(_FROM_OUTSIDE[key])})
        # Lightning's own default is lost under its command line, which passes on those of `wandb.init`. Without it W&B
        # counts a resumed run's steps from 0 again, and drops what it has had.
        said["resume"] = said.get("resume") or os.environ.get("WANDB_RESUME") or "allow"
    folder.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, as a run may be killed at any time.
    write_json(path, kept)
