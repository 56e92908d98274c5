"""Which chunks, shards and codecs read fastest: random patches, strips, bytes on disk and files."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from data_modules.store import ArrayRef, read
from tests.bench.harness import Row, interleave, median
from tests.bench.micrographs import mosaic

SHAPE = (4096, 8192)
PATCH = 1024
REPEATS = 15
SHARDS: tuple[int | None, ...] = (None, 2048, 4096)
CODECS: dict[str, list[Any]] = {
    "uncompressed": [],
    "zstd 3": [ZstdCodec(level=3)],
    "zstd 9": [ZstdCodec(level=9)],
    "blosc lz4hc 5": [BloscCodec(cname="lz4hc", clevel=5, shuffle="noshuffle")],
}
IMAGE_CODECS, MASK_CODECS = ("uncompressed", "zstd 3", "blosc lz4hc 5"), tuple(CODECS)
TODAY = {"image": (512, 2048, "uncompressed"), "mask": (512, 2048, "blosc lz4hc 5")}


@dataclass(frozen=True)
class Shape:
    """One way of storing an array, with a checksum a chunk."""

    what: str
    chunk: int
    shard: int | None
    codec: str

    def __str__(self) -> str:
        shards = "no shards" if self.shard is None else f"shards {self.shard}²"
        return f"{self.what}, chunks {self.chunk}², {shards}, {self.codec}"


def rows(scratch: Path) -> Iterator[Row]:
    """A row for every shape; the ratio is its time for a random patch to that of the shape that is used."""
    image, mask, pixels = mosaic(SHAPE)
    for what, values, codecs in (("image", image, IMAGE_CODECS), ("mask", mask, MASK_CODECS)):
        shapes = [Shape(what, *rest) for rest in itertools.product((256, 512, 1024), SHARDS, codecs)]
        today = Shape(what, *TODAY[what])
        arrays = {shape: _write(scratch / f"{index}-{what}", values, shape) for index, shape in enumerate(shapes)}
        patches = {str(shape): _regions(array, _random_patches()) for shape, array in arrays.items()}
        strips = {str(shape): _regions(array, _strips()) for shape, array in arrays.items()}
        by_patch = {name: median(seconds) for name, seconds in interleave(patches, REPEATS).items()}
        by_strip = {name: median(seconds) for name, seconds in interleave(strips, 4).items()}
        for shape, array in arrays.items():
            files = [path for path in Path(array.path).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            yield Row(
                "shapes",
                str(shape),
                1e3 * by_patch[str(shape)],
                "ms",
                "today's shape" if shape != today else "itself",
                by_patch[str(shape)] / by_patch[str(today)],
                note=f"strip {PATCH} × {SHAPE[1]} {1e3 * by_strip[str(shape)]:.1f} ms, "
                f"{size / values.nbytes:.3f} of the pixels' bytes, {len(files)} files, {pixels}",
            )


def _write(folder: Path, values: NDArray[np.uint8], shape: Shape) -> ArrayRef:
    array = zarr.create_array(
        folder,
        shape=values.shape,
        dtype="uint8",
        chunks=(shape.chunk, shape.chunk),
        shards=None if shape.shard is None else (shape.shard, shape.shard),
        compressors=[*CODECS[shape.codec], Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return ArrayRef(str(folder), str(shape), values.shape, "uint8", complete=True, stamp="")


def _regions(array: ArrayRef, regions: Iterator[tuple[slice, slice]]) -> Callable[[], object]:
    return lambda: read(array, next(regions))


def _random_patches() -> Iterator[tuple[slice, slice]]:
    random = np.random.default_rng(0)
    while True:
        y, x = (int(random.integers(0, side - PATCH + 1)) for side in SHAPE)
        yield slice(y, y + PATCH), slice(x, x + PATCH)


def _strips() -> Iterator[tuple[slice, slice]]:
    """As a sweep with half overlap reads them."""
    while True:
        for y in range(0, SHAPE[0] - PATCH + 1, PATCH // 2):
            yield slice(y, y + PATCH), slice(0, SHAPE[1])
