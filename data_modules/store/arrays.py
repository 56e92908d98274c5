"""Writing of arrays: bands of rows go in, whole shards and lower levels come out."""

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from data_modules.errors import UserError
from data_modules.store import layout

# Several threads write the blocks of a chunk in the order in which they finish: the bytes would differ from run to run.
numcodecs.blosc.use_threads = False

Band = NDArray[np.generic]
Rows = tuple[int, int]
"""First row and the row to end before."""


def create_array(
    group: Path,
    name: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    compress: bool,
    pieces: tuple[Sequence[int], Sequence[int]] | None = None,
) -> "zarr.Array[Any]":
    """Create one sharded, checksummed zarr v3 array that stores every chunk, empty ones too; an old one is replaced.

    Images are not compressed (zstd gains 2 % on electron micrographs and costs reading time). Masks read fastest as
    lz4hc, ids are half the size as zstd (docs/performance.md).

    Args:
        group: Folder that holds the array.
        name: Name of the array.
        shape: Size in px.
        dtype: Data type of its values.
        compress: Whether chunks are compressed.
        pieces: Shapes of a chunk and of a shard; by default those of mosaics.
    """
    chunk, shard = pieces or layout.chunk_and_shard(shape)
    codecs: list[Any] = [Crc32cCodec()]
    if compress and np.dtype(dtype) == np.uint8:
        codecs.insert(0, BloscCodec(cname="lz4hc", clevel=5, shuffle="noshuffle"))
    elif compress:
        codecs.insert(0, ZstdCodec(level=3))
    return zarr.create_array(
        store=group / name,
        shape=tuple(shape),
        # Files of TIFF give C's name of a type, `unsigned long long`, which zarr does not know.
        dtype=np.dtype(np.dtype(dtype).name),
        chunks=tuple(chunk),
        shards=tuple(shard),
        compressors=codecs,
        fill_value=0,
        dimension_names=layout.AXES[len(shape)],
        attributes={"emseg": {"format": layout.FORMAT, "every_chunk_written": True}},
        config={"write_empty_chunks": True},
        overwrite=True,
    )


class ArrayWriter:
    """Writer of an array from top to bottom; rows are gathered until they fill a row of shards.

    A shard is written under another name and then renamed, so that a kill leaves whole shards or none.

    Args:
        array: Array that :func:`create_array` made.
        spans: Rows to be written, in order, all of them by default. They begin at multiples of the shard height and
            end there or at the array's last row.

    Raises:
        ValueError: if two spans would share a shard.
    """

    def __init__(self, array: "zarr.Array[Any]", spans: Sequence[Rows] | None = None) -> None:
        self._array = array
        assert array.shards is not None
        self._height: int = array.shards[0]
        for start, stop in spans or ():
            if start % self._height:
                raise ValueError(f"row {start} does not begin a shard (shards have {self._height} rows)")
            if stop % self._height and stop != array.shape[0]:
                raise ValueError(f"row {stop} does not end a shard (shards have {self._height} rows)")
        self._spans: Iterator[Rows] = iter([(0, array.shape[0])] if spans is None else spans)
        self._next, self._stop = next(self._spans, (0, 0))
        self._pending: list[Band] = []

    @property
    def complete(self) -> bool:
        """Whether all rows are on disk."""
        return self._next == self._stop

    def write(self, band: Band) -> None:
        """Append rows, ``(n, …)`` of the array's other sides and data type; a band lies in one span.

        Raises:
            ValueError: if the band has another width or type, or reaches past the end of its span.
            UserError: if the disk is full or cannot be written for another reason.
        """
        if band.shape[1:] != self._array.shape[1:] or band.dtype != self._array.dtype:
            raise ValueError(
                f"a band of {band.shape[1:]} {band.dtype} does not fit an array of "
                f"{self._array.shape[1:]} {self._array.dtype}"
            )
        held = sum(len(rows) for rows in self._pending) + len(band)
        if self._next + held > self._stop:
            raise ValueError(f"{self._next + held} rows do not fit an array that ends at row {self._stop}")
        self._pending.append(band)
        at_end = self._next + held == self._stop
        if held < self._height and not at_end:
            return
        rows = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
        whole = held if at_end else held // self._height * self._height
        try:
            self._array[self._next : self._next + whole] = rows[:whole]
        except OSError as error:
            raise UserError(explain_write_failure(error, str(self._array.store_path))) from error
        self._next += whole
        self._pending = [rows[whole:]] if whole < held else []
        if self.complete:
            self._next, self._stop = next(self._spans, (self._stop, self._stop))

    def close(self) -> None:
        """Check that every row has come.

        Raises:
            ValueError: if rows are missing.
        """
        if not self.complete:
            raise ValueError(f"only {self._next} of {self._stop} rows were written")


def explain_write_failure(error: OSError, where: str) -> str:
    """Word a message for a write that the file system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no room left while writing {where} ({error.strerror}): free some space, then run the command again"
    return f"cannot write {where}: {error}"


def write_levels(group: Path, shape: tuple[int, ...], label: bool) -> None:
    """Halve level after level, a row of shards at a time, so that memory does not grow with the height.

    Args:
        group: Folder that holds full resolution as ``0``; levels that are there already are replaced.
        shape: Shape of full resolution in px.
        label: Whether pixels are halved by nearest neighbour instead of local means.
    """
    for level, level_shape in enumerate(layout.level_shapes(shape)[1:], start=1):
        finer = zarr.open_array(group / str(level - 1), mode="r")
        coarser = create_array(group, str(level), level_shape, finer.dtype, compress=label)
        writer = ArrayWriter(coarser)
        halved = 2 if len(shape) == 2 else 1
        assert coarser.shards is not None
        for start in range(0, level_shape[0], coarser.shards[0]):
            stop = min(start + coarser.shards[0], level_shape[0])
            rows = np.asarray(finer[start * halved : stop * halved])
            writer.write(np.ascontiguousarray(rows[..., ::2, ::2]) if label else halve_mean(rows))
        writer.close()


def halve_mean(rows: Band) -> NDArray[np.uint8]:
    """Average 2 × 2 pixels, rounded, of ``uint8 (…, Y, X)``; an odd last row or column is repeated."""
    pad = [(0, 0)] * (rows.ndim - 2) + [(0, rows.shape[-2] % 2), (0, rows.shape[-1] % 2)]
    even = np.pad(rows, pad, mode="edge").astype(np.uint16)
    total = even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)
