"""Reading checkpoints, with messages for people."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.checkpoints.files import damage, whole_neighbours


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint; names the nearest one that is whole.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: look in the run folder's checkpoints/ for best.ckpt and last.ckpt")
    found = damage(path)
    if found is not None:
        raise UserError(f"{_unreadable(path)}: {found}{_offer(path)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated types for broken files
        raise UserError(f"{_unreadable(path)}: {_reason(error)}{_offer(path)}") from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} holds no `state_dict`: it is not a checkpoint of `lightning fit`")
    return content


def _unreadable(path: Path) -> str:
    return f"{path} cannot be read as a checkpoint; it may be cut short, damaged or of another program"


def _reason(error: Exception) -> str:
    """Torch's reason without its advice to load the file with everything that it would run."""
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return f"it would run or make `{code[1]}`; only weights, numbers, text and lists of them are read"
    lines = (line.strip() for line in str(error).splitlines() if not re.search("weights.only", line, re.IGNORECASE))
    reason = next(filter(None, lines), "").partition(". ")[0]
    return reason if " " in reason else f"it is nothing that torch writes ({type(error).__name__})"


def _offer(path: Path) -> str:
    other = next(whole_neighbours(path), None)
    return "" if other is None else f". The newest whole checkpoint near it is {other}: pass --ckpt_path {other}"


def check_matches(module: nn.Module, checkpoint: dict[str, Any], path: Path | None = None) -> None:
    """Compare names and shapes of all weights.

    Raises:
        UserError: if they differ, naming both architectures, the first weights that differ and what to do.
    """
    own, given = module.state_dict(), checkpoint["state_dict"]
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    reshaped = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & given.keys())
        if own[key].shape != given[key].shape
    ]
    if not (missing or unexpected or reshaped):
        return
    name = checkpoint.get("emseg", {}).get("architecture", "an unknown architecture")
    parts = (("missing", missing), ("not expected", unexpected), ("of another shape", reshaped))
    listed = "; ".join(f"{len(keys)} {what}, e.g. {keys[0]}" for what, keys in parts if keys)
    where = f" {path}" if path else ""
    raise UserError(
        f"the checkpoint{where} is of {name} and does not fit the configured {type(module).__name__}: {listed}. "
        "Use the --config that the checkpoint was trained with (config.yaml in its run folder)"
    )


def load_weights(module: nn.Module, path: Path) -> None:
    """Start from another run's weights, all of them, and nothing else of its state.

    Raises:
        UserError: if the file cannot be read or does not fit.
    """
    checkpoint = read(path)
    check_matches(module, checkpoint, path)
    module.load_state_dict(checkpoint["state_dict"])
