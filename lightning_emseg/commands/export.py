"""``emseg export``: trained networks and predictions for other programs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import MosaicStore
from lightning_emseg.inference.cremi_export import Crop, Triple, file_name, predicted_clefts, write_clefts

_BACKBONE, _HEAD = "encoder_q.backbone.", "encoder_q.fc."
_RELEASED = "module.encoder_q."


def cremi(
    predictions: Path,
    out: Path | None = None,
    threshold: float | None = None,
    crop_first: str | None = None,
    crop_size: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write predicted volumes in the format of the CREMI challenge, one HDF5 file each, with an id for every cleft.

    The sample sample-A+ becomes sample_A+_20160601.hdf, with the dataset volumes/labels/clefts: ids from 1 in clefts,
    2^64-1 elsewhere. Of padded volumes, the part that is scored begins at the offset of the challenge's labels.

    Args:
        predictions: Store that `lightning predict` wrote.
        out: Folder for the files, made where it does not exist; by default beside the store, with the ending -cremi.
        threshold: Probability from which on a voxel is cleft; by default the masks as predicted.
        crop_first: First voxel Z,Y,X of the part to be written, such as 37,911,911; needs --crop-size.
        crop_size: Sides of that part as Z,Y,X, such as 125,1250,1250.
        overwrite: Replace files of the same names.

    Raises:
        UserError: if a sample is 2D, no prediction or smaller than the crop, if voxels of it are marked as not
            predicted, or if files exist.
    """
    if threshold is not None and not (math.isfinite(threshold) and 0 < threshold <= 1):
        raise UserError(f"--threshold {threshold:g}: give a probability above 0, up to 1")
    crop = _parse_crop(crop_first, crop_size)
    folder = out or Path(f"{predictions}-cremi")
    samples = MosaicStore(predictions).samples()
    if not samples:
        raise UserError(f"{predictions} has no samples: give the store that `lightning predict` wrote")
    found = [predicted_clefts(sample, crop, threshold) for sample in samples]
    keys: dict[str, str] = {}
    for clefts in found:
        name = file_name(clefts.key.split("/")[1])
        if (other := keys.setdefault(name, clefts.key)) != clefts.key:
            raise UserError(f"{other} and {clefts.key} would both become {name}: predict into two stores")
    targets = [folder / name for name in keys]
    existing = [target.name for target in targets if target.exists()]
    if existing and not overwrite:
        raise UserError(f"{folder} already has {', '.join(existing)}: choose another --out, or pass --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; choose another --out") from error
    lines = []
    for clefts, target in tqdm(zip(found, targets, strict=True), total=len(found), unit="volume", disable=None):
        number = write_clefts(clefts, target)
        sides = " × ".join(f"{side:,}" for side in clefts.crop.size)
        size = " × ".join(f"{side:g}" for side in clefts.voxel_nm)
        note = "" if number else ": nothing is predicted, and the challenge's own code cannot score that"
        lines.append(f"{target}: {number:,} clefts in {sides} voxels of {size} nm{note}")
    return "\n".join(lines)


def _parse_crop(first: str | None, size: str | None) -> Crop | None:
    """Read the part that ``--crop-first`` and ``--crop-size`` mean; ``None`` where neither is given."""
    if first is None and size is None:
        return None
    if first is None or size is None:
        raise UserError("--crop-first and --crop-size belong together: give both, such as 37,911,911 and 125,1250,1250")
    return Crop(_triple(first, "--crop-first", 0), _triple(size, "--crop-size", 1))


def _triple(text: str, option: str, least: int) -> Triple:
    try:
        z, y, x = (int(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text!r}: give Z,Y,X in voxels, such as 37,911,911") from None
    if min(z, y, x) < least:
        raise UserError(f"{option} {text!r}: voxels should be {least} or more")
    return z, y, x


def encoder(checkpoint: Path, out: Path | None = None) -> str:
    """Write the encoder of a MoCo checkpoint in the format of CEM500K's release.

    The file is what `--model.encoder_weights` of UNet takes, and what other code for these weights reads: a dict with
    `state_dict` (`module.encoder_q.*`, ResNets under torchvision's names, the head as `fc`) and `norms` (mean and
    standard deviation of the grey values, 0–1).

    Args:
        checkpoint: Checkpoint of `lightning fit` with the module MoCo.
        out: File to write; by default beside the checkpoint, with the ending .pth.

    Raises:
        UserError: if the checkpoint cannot be read or is of another module, or the file exists.
    """
    # Imported here, as exports of clefts do without torch.
    import torch

    from lightning_emseg.core import checkpoints

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
    """Bring a checkpoint's encoder into the format of CEM500K's files.

    Args:
        checkpoint: Content of the file.
        path: File that it was read from, for messages.

    Raises:
        UserError: if it is of another module, or has no grey values yet.
    """
    state: Mapping[str, Any] = checkpoint["state_dict"]
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
