"""What an interrupted run has left of a sample, so that the next run continues where it was killed."""

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_modules.errors import UserError
from data_modules.store import layout
from data_modules.store.arrays import Rows
from data_modules.store.reader import ArrayRef, read
from data_modules.store.writer import partial_folder


@dataclass(frozen=True)
class Earlier:
    """A sample that an earlier run has begun or finished.

    Attributes:
        state: Whether it is in its place or still in the making.
        provenance: With which it was begun; empty where even that was not written.
        rows: Spans of rows that are on disk in all of its arrays and read back without error.
    """

    state: Literal["finished", "partial"]
    provenance: dict[str, Any]
    rows: tuple[Rows, ...]


def find_earlier(target: Path, labels: Sequence[str], shape: Sequence[int]) -> Earlier | None:
    """Look for a sample and, where it is not finished, for its rows.

    Args:
        target: ``<store>/<split>/<sample>``.
        labels: Names of the labels that the sample is to have.
        shape: Of the sample in px.

    Returns:
        What was found; the finished sample only where there is none in the making, of which rows are left.
    """
    part = partial_folder(target)
    if part.is_dir():
        rows = _sound_rows(_arrays(part, labels), shape)
        if rows:
            return Earlier("partial", _provenance(part), tuple(rows))
    if target.is_dir():
        return Earlier("finished", _provenance(target), ((0, shape[0]),))
    return None


def clear_rest(target: Path, labels: Sequence[str], shape: Sequence[int], rows: Sequence[Rows]) -> None:
    """Delete what a kill has left of a sample beside ``rows``: damaged shards and files of writes cut short.

    Zarr would read a damaged shard before it writes to it, and refuse.

    Args:
        target: ``<store>/<split>/<sample>``.
        labels: Names of the labels that the sample is to have.
        shape: Of the sample in px.
        rows: What :func:`find_earlier` has found.
    """
    part = partial_folder(target)
    stray = [*part.rglob("*.partial"), *target.parent.glob("zarr.*.partial"), *target.parents[1].glob("zarr.*.partial")]
    for path in stray:
        path.unlink(missing_ok=True)
    kept = {row for start, stop in rows for row in range(start, stop, layout.shard_rows(shape))}
    for array in _arrays(part, labels):
        for start in range(0, shape[0], layout.shard_rows(shape)):
            if start not in kept:
                shutil.rmtree(array / "c" / str(start // layout.shard_rows(shape)), ignore_errors=True)


def _arrays(part: Path, labels: Sequence[str]) -> list[Path]:
    return [part / "0", *(part / "labels" / label / "0" for label in labels)]


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "zarr.json").read_text())["attributes"]["emseg"]["provenance"]
    except (OSError, ValueError, KeyError):
        return {}
    return dict(found)


def _sound_rows(arrays: Sequence[Path], shape: Sequence[int]) -> list[Rows]:
    step = layout.shard_rows(shape)
    spans: list[Rows] = []
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        if all(_is_sound(array, tuple(shape), start, stop) for array in arrays):
            joined = spans.pop()[0] if spans and spans[-1][1] == start else start
            spans.append((joined, stop))
    return spans


def _is_sound(array: Path, shape: tuple[int, ...], start: int, stop: int) -> bool:
    """Whether all shards of a row are there and their checksums fit."""
    _, shard = layout.chunk_and_shard(shape)
    across = [range(-(-side // step)) for side, step in zip(shape[1:], shard[1:], strict=True)]
    row = start // shard[0]
    if not all((array / "c" / "/".join(map(str, (row, *rest)))).is_file() for rest in itertools.product(*across)):
        return False
    whole = ArrayRef(str(array), "unfinished prediction", shape, "uint8", complete=True)
    try:
        for column in across[-1]:
            last = slice(column * shard[-1], min((column + 1) * shard[-1], shape[-1]))
            read(whole, (slice(start, stop), *(slice(0, side) for side in shape[1:-1]), last))
    except UserError:
        return False
    return True
