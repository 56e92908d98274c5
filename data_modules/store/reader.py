"""Reading regions; every read of pixels in this project goes through :func:`read`."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store import tensors
from data_modules.store.layout import LabelInfo, ReadError, is_url, local_stamp
from data_modules.store.sharded import Sharded

Pixels = NDArray[Any]


@dataclass(frozen=True)
class ArrayRef:
    """Where one array of a sample lies and what it holds; plain data that is cheap to send to a worker.

    Attributes:
        path: Folder or URL of the zarr array.
        what: For messages, e.g. ``image of train/a``.
        shape: In px.
        dtype: Name of the data type.
        complete: Whether every chunk was written, so that a missing one is damage and not the fill value.
        info: What label values mean; ``None`` for images.
        stamp: What changes when the array is replaced by another; empty to read whatever is there.
    """

    path: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    complete: bool
    info: LabelInfo | None = None
    stamp: str = ""


def read(array: ArrayRef, region: Sequence[slice]) -> Pixels:
    """Read a region that lies inside the array.

    Args:
        array: From a :class:`~data_modules.store.samples.Sample`.
        region: One slice with start and stop an axis, in px.

    Returns:
        A new array of the region's shape and the store's data type.

    Raises:
        UserError: if a chunk is missing or damaged, naming sample, region and file; if the array is another one than
            when its sample was opened; if a URL does not answer.
    """
    try:
        pixels = _read(array, region)
    except ReadError as failure:
        _refuse_replaced(array)
        raise UserError(_explain(array, region, failure)) from failure
    # Afterwards, because an array may be replaced while it is read.
    _refuse_replaced(array)
    return pixels


def survives_fork(array: ArrayRef) -> bool:
    """Whether an array is read without TensorStore, so that its readers may be started with ``fork``.

    Args:
        array: From a :class:`~data_modules.store.samples.Sample`.
    """
    try:
        return not is_url(array.path) and _local_layout(array) is not None
    except ReadError:
        return False


def _read(array: ArrayRef, region: Sequence[slice]) -> Pixels:
    if not all(0 <= part.start <= part.stop <= side for part, side in zip(region, array.shape, strict=True)):
        raise ReadError("unreadable", f"the region does not lie inside {array.shape} px")
    if not is_url(array.path):
        layout = _local_layout(array)
        if layout is not None:
            if layout.shape != array.shape:
                raise ReadError("damaged", f"{array.path}/zarr.json says {layout.shape} px instead of {array.shape}")
            return layout.read(array.path, region)
    return tensors.read_array(array.path, array.complete, array.stamp, region)


def _local_layout(array: ArrayRef) -> Sharded | None:
    try:
        return _layout(array.path, array.complete, array.stamp or local_stamp(array.path))
    except (OSError, ValueError) as error:
        raise ReadError("unreadable", f"{array.path}/zarr.json: {error}") from error


@functools.lru_cache(maxsize=4096)
def _layout(path: str, complete: bool, stamp: str) -> Sharded | None:
    # The stamp serves the cache alone: an array that replaces another must not be read as the old one.
    return Sharded.parse(json.loads((Path(path) / "zarr.json").read_bytes()), complete)


def _refuse_replaced(array: ArrayRef) -> None:
    if not array.stamp or is_url(array.path):
        return
    try:
        stamp = local_stamp(array.path)
    except OSError as error:
        raise UserError(
            f"{array.what}: {array.path} has gone since this run opened it ({error.strerror}): was it moved, deleted "
            "or unmounted? Bring it back and start the run again"
        ) from error
    if stamp != array.stamp:
        raise UserError(_replaced(array))


def _replaced(array: ArrayRef) -> str:
    return f"{array.what}: {array.path} was replaced while this run was reading it: start the run again"


def _explain(array: ArrayRef, region: Sequence[slice], failure: ReadError) -> str:
    if failure.kind == "replaced":
        return _replaced(array)
    state = "cannot be read" if failure.kind == "unreadable" else f"is {failure.kind}"
    where = ", ".join(f"{part.start}:{part.stop}" for part in region)
    advice = (
        "Check the network, the address and the permissions, and start the run again"
        if failure.kind == "unreadable"
        else "Run `emseg data verify STORE` for the full list and convert the sample again"
    )
    return f"{array.what}: stored data {state} in region [{where}] of {array.path}. {advice}.\n  cause: {failure}"
