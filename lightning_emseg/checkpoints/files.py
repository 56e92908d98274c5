"""Checkpoint files: written whole or not at all, and checked against the sums that torch keeps in them."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from data_modules.errors import UserError

_FOLDER = 0x10
"""Attribute of an archive's member; torch leaves the weights of a record that has it unset, and says nothing."""


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that ``path`` holds the former one or the new one at any time, also after a power cut.

    Args:
        content: What ``torch.save`` takes.
        path: Its folder is made where it is missing.

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
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        cause = _refusal(error)
        if cause is None:
            raise
        left = f"go on from the one before it with --ckpt_path {path}" if path.exists() else "start the run again"
        raise UserError(f"checkpoint {path} could not be written ({cause}): make room there and {left}") from error
    finally:
        part.unlink(missing_ok=True)


def damage(path: Path) -> str | None:
    """What contradicts the CRC-32 that torch writes for every record, but does not compare when it loads.

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
    """Undamaged checkpoints of the same run, newest first, then those of earlier runs in the same run folder."""
    folders = [path.parent, *sorted(path.parents[1].glob("earlier/*/checkpoints"), key=_run_number, reverse=True)]
    for folder in folders:
        for found in sorted(folder.glob("*.ckpt"), key=lambda each: each.stat().st_mtime, reverse=True):
            if found != path and damage(found) is None and zipfile.is_zipfile(found):
                yield found


def _run_number(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _refusal(error: BaseException) -> str | None:
    """The system's own word on a failed write; torch's writer hides it behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _sync_folder(folder: Path) -> None:
    # The new name must reach the disk too; some network file systems know no such thing for folders.
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
