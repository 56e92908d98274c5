"""What the tests of the direct reader share: arrays with chunks and shards of any size."""

from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from data_modules.store import ArrayRef
from tests.support.store_checks import Pixels

Shape = tuple[int, ...]
CODECS: dict[str | None, list[Any]] = {
    None: [],
    "zstd": [ZstdCodec(level=3)],
    "blosc": [BloscCodec(cname="lz4hc", clevel=5, shuffle="noshuffle")],
}


def write(
    folder: Path, pixels: Pixels, chunk: Shape, shard: Shape, codec: str | None, write_empty: bool = True, fill: int = 0
) -> ArrayRef:
    """An array as the writer makes it, with chunks and shards of any size."""
    array = zarr.create_array(
        folder,
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=chunk,
        shards=shard,
        compressors=[*CODECS[codec], Crc32cCodec()],
        fill_value=fill,
        config={"write_empty_chunks": write_empty},
    )
    array[...] = pixels
    return ArrayRef(str(folder), "image of train/a", pixels.shape, str(pixels.dtype), complete=write_empty)
