"""Reading checkpoints, with messages for people."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_modules.errors import UserError


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: look in the run folder's checkpoints/ for best.ckpt and last.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated types for broken files
        raise UserError(
            f"{path} cannot be read as a checkpoint; it may be cut short or of another program: {error}"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} holds no `state_dict`: it is not a checkpoint of `lightning fit`")
    return content


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


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of names and values of all parameters and buffers, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
