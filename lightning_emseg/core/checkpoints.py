"""Checkpoint files: written whole or not at all, read without running code, compared with the network they go into."""

import hashlib
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_modules.errors import UserError


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(module: nn.Module) -> str:
    """Compute the SHA-256 of names and values of all parameters and buffers, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_FOLDER = 0x10
"""Attribute of an archive's member; torch leaves the weights of a record that has it unset, and says nothing."""


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that ``path`` holds the former one or the new one at any time, also after a power cut.

    Args:
        content: Content as ``torch.save`` takes it.
        path: File; its folder is made where it is missing.

    Raises:
        UserError: if the disk is full or refuses; what was there before is untouched.
    """
    part = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        # The new name must reach the disk too; some network file systems know no such thing for folders.
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(handle)
        finally:
            os.close(handle)
    except (OSError, RuntimeError) as error:
        cause = _refusal(error)
        if cause is None:
            raise
        left = f"go on from the one before it with --ckpt_path {path}" if path.exists() else "start the run again"
        raise UserError(f"checkpoint {path} could not be written ({cause}): make room there and {left}") from error
    finally:
        part.unlink(missing_ok=True)


def damage(path: Path) -> str | None:
    """Find what contradicts the CRC-32 that torch writes for every record, but does not compare when it loads.

    Args:
        path: A file that exists.

    Returns:
        The first contradiction; ``None`` where there is none, and for files of another kind than zip archives (those
        of torch before 1.6, and those that were cut short), of which only loading can tell.
    """
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
            folders = [info.filename for info in archive.infolist() if info.external_attr & _FOLDER]
    except Exception as error:  # zipfile raises many unrelated types for broken headers
        return f"broken archive: {error}"
    if folders:
        return f"its record {folders[0]} is marked as a folder"
    return None if record is None else f"the checksum of its record {record} is wrong"


def whole_neighbours(path: Path) -> Iterator[Path]:
    """List undamaged checkpoints of the same run, newest first, then those of earlier runs in the same run folder."""
    earlier = {folder: folder.parent.name for folder in path.parents[1].glob("earlier/*/checkpoints")}
    numbers = {folder: int(name) if name.isdigit() else 0 for folder, name in earlier.items()}
    for folder in (path.parent, *sorted(numbers, key=lambda each: numbers[each], reverse=True)):
        for found in sorted(folder.glob("*.ckpt"), key=lambda each: each.stat().st_mtime, reverse=True):
            if found != path and damage(found) is None and zipfile.is_zipfile(found):
                yield found


def _refusal(error: BaseException) -> str | None:
    """The system's own word on a failed write; torch's writer hides it behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint; names the nearest one that is whole.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: look in the run folder's checkpoints/ for best.ckpt and last.ckpt")
    found = damage(path)
    if found is not None:
        raise _unreadable(path, found)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated types for broken files
        raise _unreadable(path, _reason(error)) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} holds no `state_dict`: it is not a checkpoint of `lightning fit`")
    return content


def _unreadable(path: Path, reason: str) -> UserError:
    other = next(whole_neighbours(path), None)
    offer = "" if other is None else f". The newest whole checkpoint near it is {other}: pass --ckpt_path {other}"
    return UserError(
        f"{path} cannot be read as a checkpoint; it may be cut short, damaged or of another program: {reason}{offer}"
    )


def _reason(error: Exception) -> str:
    """Torch's reason without its advice to load the file with everything that it would run."""
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return f"it would run or make `{code[1]}`; only weights, numbers, text and lists of them are read"
    lines = (line.strip() for line in str(error).splitlines() if not re.search("weights.only", line, re.IGNORECASE))
    reason = next(filter(None, lines), "").partition(". ")[0]
    return reason if " " in reason else f"it is nothing that torch writes ({type(error).__name__})"


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
