"""The W&B run of a run folder, which outlives the process that began it."""

import json
import os
import secrets
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from data_modules.errors import UserError

_FILE = "wandb.json"
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
    path = folder / _FILE
    kept = _read(path) if resumed and path.exists() else _new(folder)
    for logger in loggers:
        kept = _settle(logger, kept)
    folder.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, as a run may be killed at any time.
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(kept, indent=2) + "\n")
    unfinished.replace(path)


def _new(folder: Path) -> dict[str, str | None]:
    called = None if os.environ.get("WANDB_SWEEP_ID") else folder.resolve().name
    return {"id": secrets.token_hex(4), "name": called, "group": called}


def _read(path: Path) -> dict[str, str | None]:
    try:
        found = json.loads(path.read_text())
        return {key: found[key] for key in _FROM_OUTSIDE}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not name the W&B run to continue: delete it, and a new one is begun, or restore"
            ' {"id": ..., "name": ..., "group": ...} from the address of the run'
        ) from error


def _settle(logger: WandbLogger, kept: dict[str, str | None]) -> dict[str, str | None]:
    """Pass on what nobody said otherwise; returns what the run will have."""
    said = logger._wandb_init
    settled = {key: said.get(key) or os.environ.get(name) or kept[key] for key, name in _FROM_OUTSIDE.items()}
    # W&B warns of an id that is passed on in a sweep, even if it is the trial's.
    said.update({key: value for key, value in settled.items() if not os.environ.get(_FROM_OUTSIDE[key])})
    # Lightning's own default is lost under its command line, which passes on those of `wandb.init`. Without it W&B
    # counts a resumed run's steps from 0 again, and drops what it has had.
    said["resume"] = said.get("resume") or os.environ.get("WANDB_RESUME") or "allow"
    return settled
