"""``emseg export encoder``: what a MoCo run has learnt, for other programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.core import checkpoints

_BACKBONE, _HEAD = "encoder_q.backbone.", "encoder_q.fc."
_RELEASED = "module.encoder_q."


def encoder(checkpoint: Path, out: Path | None = None) -> str:
    """Write the encoder of a MoCo checkpoint in the format of CEM500K's release.

    The file is what `--model.encoder_weights` of UNet takes, and what other code for these weights reads: a dict with
    `state_dict` (`module.encoder_q.*`, ResNets under torchvision's names, the head as `fc`) and `norms` (mean and
    standard deviation of the grey values, 0–1).

    Args:
        checkpoint: Of `lightning fit` with the module MoCo.
        out: The file; by default beside the checkpoint, with the ending .pth.

    Raises:
        UserError: if the checkpoint cannot be read or is of another module, or the file exists.
    """
    content = released_format(checkpoints.read(checkpoint), checkpoint)
    out = out or checkpoint.with_suffix(".pth")
    if out.exists():
        raise UserError(f"{out} exists already: choose another --out, or remove it")
    part = out.with_name(f".{out.name}.partial")
    try:
        torch.save(content, part)
        part.replace(out)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{out} cannot be written: {error}") from error
    mean, std = (content["norms"][name] for name in ("mean", "std"))
    return f"{out}: {len(content['state_dict'])} tensors of {content['arch']}, grey values {mean:.4f} ± {std:.4f}"


def released_format(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A checkpoint's encoder as CEM500K's files have it.

    Args:
        checkpoint: As read.
        path: Where it was read from, for messages.

    Raises:
        UserError: if it is of another module, or has no grey values yet.
    """
    state: Mapping[str, Tensor] = checkpoint["state_dict"]
    backbone = {_RELEASED + key[len(_BACKBONE) :]: value for key, value in state.items() if key.startswith(_BACKBONE)}
    if not backbone:
        what = checkpoint.get("emseg", {}).get("architecture", "an unknown module")
        raise UserError(f"{path} is of {what} and has no encoder_q: give a checkpoint of `lightning fit` with MoCo")
    head = {f"{_RELEASED}fc.{key[len(_HEAD) :]}": value for key, value in state.items() if key.startswith(_HEAD)}
    mean, std = (float(state[f"grey_{name}"]) / 255 for name in ("mean", "std"))
    return {
        "state_dict": {**backbone, **head},
        "norms": {"mean": mean, "std": std},
        "arch": checkpoint.get("emseg", {}).get("encoder", "unknown"),
        "epoch": checkpoint.get("epoch"),
    }
