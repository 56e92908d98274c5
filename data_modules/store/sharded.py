"""Reading local sharded arrays of our own layout without any library's threads, which makes it safe under ``fork``.

The layout is zarr v3's ``sharding_indexed`` with the index at the end: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray

from data_modules.store import shard_files
from data_modules.store.errors import ReadError
from data_modules.store.shard_files import CRC_BYTES, ShardFile

Pixels = NDArray[Any]
_MISSING = 2**64 - 1
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_DECODERS: Mapping[str, Callable[[NDArray[np.uint8]], bytes]] = {"zstd": zstd.decompress, "blosc": blosc.decompress}
_TYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float32", "float64"}


@dataclass(frozen=True)
class Sharded:
    """How an array is cut and stored.

    Attributes:
        shape: Of the array in px.
        dtype: Of the pixels.
        chunk: Shape of a chunk in px.
        chunks_per_shard: Along each axis.
        codec: That chunks are compressed with, ``zstd`` or ``blosc``, or ``None``.
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
        """From the ``zarr.json`` of an array; ``None`` for any other layout than the one that is read here.

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
            folder: Of the array.
            region: One slice with start and stop an axis, in px.

        Returns:
            A new array of the region's shape.

        Raises:
            ReadError: if a chunk is missing, damaged or cannot be read.
        """
        pixels = np.empty([part.stop - part.start for part in region], self.dtype)
        buffer = np.empty(self._chunk_bytes + CRC_BYTES, np.uint8)
        shards: dict[tuple[int, ...], ShardFile | None] = {}
        for cell in itertools.product(*(_cuts(part, side) for part, side in zip(region, self.chunk, strict=True))):
            chunk, target, source = zip(*cell, strict=True)
            place = tuple(map(operator.floordiv, chunk, self.chunks_per_shard))
            if place not in shards:
                shards[place] = self._open(folder, place)
            shard = shards[place]
            stored = None if shard is None else self._chunk(shard, chunk, buffer)
            pixels[target] = self.fill if stored is None else stored[source]
        return pixels

    @property
    def _chunk_bytes(self) -> int:
        return math.prod(self.chunk) * self.dtype.itemsize

    def _open(self, folder: str, place: Sequence[int]) -> ShardFile | None:
        path = "/".join([folder, "c", *map(str, place)])
        try:
            return shard_files.files.open(path, math.prod(self.chunks_per_shard))
        except ReadError as failure:
            if failure.kind == "missing" and self.fill is not None:
                return None
            raise

    def _chunk(self, shard: ShardFile, chunk: Sequence[int], buffer: NDArray[np.uint8]) -> Pixels | None:
        entry = 0
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
        if content.nbytes != self._chunk_bytes:
            raise ReadError(
                "damaged",
                f'chunk {tuple(chunk)} of "{shard.path}" has {content.nbytes} bytes instead of {self._chunk_bytes}',
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
