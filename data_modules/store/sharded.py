"""Local sharded arrays of our own layout, read without a library's threads and so safe under ``fork``.

The layout is zarr v3's ``sharding_indexed`` with the index at the end: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

import itertools
import math
import operator
import os
import struct
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray

from data_modules.store.layout import ReadError, cache_bytes

Pixels = NDArray[Any]
MOST_OPEN = 128
"""Files that are kept open; a process may usually open 1,024."""
CRC_BYTES = 4
_SETTLED_NS = 2_000_000_000
_MISSING = 2**64 - 1
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_DECODERS: Mapping[str, Callable[[NDArray[np.uint8]], bytes]] = {"zstd": zstd.decompress, "blosc": blosc.decompress}
_TYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float32", "float64"}
_file_stamp = operator.attrgetter("st_ino", "st_mtime_ns", "st_size")


def local_stamp(folder: str) -> str:
    """Inode and time of change of the ``zarr.json`` of a local array, which differ for whatever replaces it.

    Raises:
        OSError: if it is not there.
    """
    status = os.stat(f"{folder}/zarr.json")  # noqa: PTH116 - called at every read, and a Path costs more than the call
    return f"{status.st_ino}:{status.st_mtime_ns}"


class ShardFile:
    """A shard that is open for reading; the last reference closes it, so no thread reads from a closed one.

    Attributes:
        path: Path of the file.
        stamp: Inode, time of change in ns, size in bytes.
        index: Offset and length of every chunk in bytes, ``uint64 (chunks, 2)``; both are 2⁶⁴ − 1 for a missing one.
    """

    def __init__(self, path: str, chunks: int) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, self._descriptor).atexit = False
            self.stamp: tuple[int, int, int] = _file_stamp(os.fstat(self._descriptor))
        except OSError as error:
            raise _failure_of(path, error) from error
        size, length = self.stamp[2], 16 * chunks + CRC_BYTES
        if size < length:
            raise ReadError("damaged", f'"{path}" has {size} bytes, fewer than its index of {length}')
        content = self.read(size - length, length, np.empty(length, np.uint8))
        self.index: NDArray[np.uint64] = content.view("<u8").reshape(chunks, 2)

    def read(self, offset: int, length: int, into: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Read bytes of the file and compare the checksum that they end with; returns them without it.

        Args:
            offset: Position of the first byte.
            length: Number of bytes, the checksum of 4 bytes included.
            into: Buffer of at least ``length`` bytes.

        Raises:
            ReadError: if the file ends before, if the checksum differs, or if the system cannot read.
        """
        try:
            got = os.preadv(self._descriptor, [into[:length].data], offset)
        except OSError as error:
            raise _failure_of(self.path, error) from error
        if got != length or length < CRC_BYTES:
            raise ReadError("damaged", f'bytes {offset}:{offset + length} of "{self.path}", which has {self.stamp[2]}')
        content = into[: length - CRC_BYTES]
        (stored,) = struct.unpack("<I", into[length - CRC_BYTES : length].tobytes())
        computed = google_crc32c.value(content)
        if stored != computed:
            raise ReadError(
                "damaged",
                f'checksum of bytes {offset}:{offset + length} of "{self.path}" is {computed:#010x}, '
                f"but {stored:#010x} was stored",
            )
        return content


class ShardFiles:
    """Shards that were used last; a file that has changed on disk is opened anew.

    Attributes:
        kept: Open files by path, those used last at the end.
    """

    def __init__(self) -> None:
        self.kept: OrderedDict[str, ShardFile] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def open(self, path: str, chunks: int) -> ShardFile:
        """Open the shard at ``path``, whose index has ``chunks`` entries.

        Raises:
            ReadError: if it is missing, has no sound index or cannot be read.
        """
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
        except OSError as error:
            raise _failure_of(path, error) from error
        with self._lock:
            known = self.kept.get(path)
            if known is not None and known.stamp == _file_stamp(status) and len(known.index) == chunks:
                self.kept.move_to_end(path)
                return known
        opened = ShardFile(path, chunks)
        # A file that was written a moment ago may be written again without its time of change moving on.
        if time.time_ns() - status.st_mtime_ns <= _SETTLED_NS:
            return opened
        most_bytes = cache_bytes()
        with self._lock:
            replaced = self.kept.pop(path, None)
            self._bytes += opened.index.nbytes - (0 if replaced is None else replaced.index.nbytes)
            self.kept[path] = opened
            while self.kept and (self._bytes > most_bytes or len(self.kept) > MOST_OPEN):
                _, dropped = self.kept.popitem(last=False)
                self._bytes -= dropped.index.nbytes
        return opened


def _failure_of(path: str, error: OSError) -> ReadError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ReadError("missing", f'"{path}" is missing')
    return ReadError("unreadable", f'"{path}": {error.strerror}')


files = ShardFiles()


def _after_fork() -> None:
    # Another thread of the parent may have held the lock.
    global files
    files = ShardFiles()


os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Sharded:
    """Layout of a sharded array.

    Attributes:
        shape: Size of the array in px.
        dtype: Data type of the pixels.
        chunk: Shape of a chunk in px.
        chunks_per_shard: Number of chunks along each axis.
        codec: Compression of chunks, ``zstd`` or ``blosc``, or ``None``.
        fill: Value of missing chunks, or ``None`` where a missing chunk is an error.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    chunks_per_shard: tuple[int, ...]
    codec: str | None
    fill: int | float | None

    @classmethod
    def parse(cls, metadata: Mapping[str, Any], complete: bool) -> "Sharded | None":
        """Parse the ``zarr.json`` of an array; ``None`` for any other layout than the one that is read here.

        Args:
            metadata: Content of ``zarr.json``.
            complete: Whether a missing chunk is an error.
        """
        try:
            grid, (sharding,) = metadata["chunk_grid"], metadata["codecs"]
            inner = sharding["configuration"]
            codecs = [codec["name"] for codec in inner["codecs"]]
            first = inner["codecs"][0]
            supported = (
                metadata["zarr_format"] == 3
                and not metadata.get("storage_transformers")
                and grid["name"] == "regular"
                and metadata["chunk_key_encoding"]
                in ({"name": "default"}, {"name": "default", "configuration": {"separator": "/"}})
                and sharding["name"] == "sharding_indexed"
                and codecs in (["bytes", "crc32c"], *(["bytes", codec, "crc32c"] for codec in _DECODERS))
                and inner["index_codecs"] == [_LITTLE, {"name": "crc32c"}]
                and inner.get("index_location", "end") == "end"
                and metadata["data_type"] in _TYPES
                and (first == _LITTLE or metadata["data_type"] in ("uint8", "int8"))
            )
            shard, chunk = grid["configuration"]["chunk_shape"], inner["chunk_shape"]
            shape, fill = metadata["shape"], metadata["fill_value"]
        except (KeyError, ValueError, TypeError, IndexError):
            return None
        if not supported or not isinstance(fill, int | float):
            return None
        per_shard = tuple(large // small for large, small in zip(shard, chunk, strict=True))
        dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
        return cls(
            tuple(shape),
            dtype,
            tuple(chunk),
            per_shard,
            codecs[1] if len(codecs) == 3 else None,
            None if complete else fill,
        )

    def read(self, folder: str, region: Sequence[slice]) -> Pixels:
        """Read a region that lies inside the array.

        Args:
            folder: Folder of the array.
            region: One slice with start and stop an axis, in px.

        Returns:
            A new array of the region's shape.

        Raises:
            ReadError: if a chunk is missing, damaged or cannot be read.
        """
        pixels = np.empty([part.stop - part.start for part in region], self.dtype)
        buffer = np.empty(math.prod(self.chunk) * self.dtype.itemsize + CRC_BYTES, np.uint8)
        shards: dict[tuple[int, ...], ShardFile | None] = {}
        for cell in itertools.product(*(_cuts(part, side) for part, side in zip(region, self.chunk, strict=True))):
            chunk, target, source = zip(*cell, strict=True)
            place = tuple(map(operator.floordiv, chunk, self.chunks_per_shard))
            if place not in shards:
                path = "/".join([folder, "c", *map(str, place)])
                try:
                    shards[place] = files.open(path, math.prod(self.chunks_per_shard))
                except ReadError as failure:
                    if failure.kind != "missing" or self.fill is None:
                        raise
                    shards[place] = None
            shard = shards[place]
            stored = None if shard is None else self._chunk(shard, chunk, buffer)
            pixels[target] = self.fill if stored is None else stored[source]
        return pixels

    def _chunk(self, shard: ShardFile, chunk: Sequence[int], buffer: NDArray[np.uint8]) -> Pixels | None:
        size, entry = len(buffer) - CRC_BYTES, 0
        for number, extent in zip(chunk, self.chunks_per_shard, strict=True):
            entry = entry * extent + number % extent
        offset, length = shard.index[entry].tolist()
        if offset == length == _MISSING:
            if self.fill is None:
                raise ReadError("missing", f'chunk {tuple(chunk)} is missing in "{shard.path}"')
            return None
        if offset + length > shard.stamp[2]:
            raise ReadError("damaged", f'chunk {tuple(chunk)} of "{shard.path}" lies behind the end of the file')
        if length > len(buffer):  # as little as zstd adds to what does not compress
            buffer = np.empty(length, np.uint8)
        content = shard.read(offset, length, buffer)
        if self.codec is not None:
            try:
                content = np.frombuffer(_DECODERS[self.codec](content), np.uint8)
            except RuntimeError as error:
                raise ReadError("damaged", f'chunk {tuple(chunk)} of "{shard.path}": {error}') from error
        if content.nbytes != size:
            raise ReadError(
                "damaged", f'chunk {tuple(chunk)} of "{shard.path}" has {content.nbytes} bytes instead of {size}'
            )
        return content.view(self.dtype).reshape(self.chunk)


def _cuts(part: slice, side: int) -> list[tuple[int, slice, slice]]:
    """Along one axis: number of each chunk, where it goes in the region, and which part of it."""
    cuts = []
    for number in range(part.start // side, -(-part.stop // side)):
        start, stop = max(part.start, number * side), min(part.stop, (number + 1) * side)
        corner = number * side
        cuts.append((number, slice(start - part.start, stop - part.start), slice(start - corner, stop - corner)))
    return cuts
