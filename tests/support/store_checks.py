"""What the store tests share: writing small samples, and damaging them on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from data_modules.store import ArrayRef, LabelInfo, SampleWriter, read

Pixels = NDArray[Any]


def noise(shape: tuple[int, ...], seed: int = 0, top: int = 256, dtype: Any = np.uint8) -> Pixels:
    return np.random.default_rng(seed).integers(0, top, shape, dtype=dtype)


def write_sample(
    store: Path,
    image: Pixels,
    labels: dict[str, tuple[LabelInfo, Pixels]] | None = None,
    key: str = "train/a",
    bands: Sequence[int] = (),
    pixel_size_nm: Sequence[float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a sample in bands of the heights given, the rest in one, and return its folder."""
    split, name = key.split("/")
    size = pixel_size_nm or (4.0,) * image.ndim
    with SampleWriter(store, split, name, image.shape, size, overwrite=overwrite) as sample:
        writers = [(sample.image, image)]
        for label, (info, values) in (labels or {}).items():
            writers.append((sample.add_label(label, info, values.dtype), values))
        for writer, pixels in writers:
            for band in np.split(pixels, np.cumsum(bands).tolist()):
                writer.write(band)
    return store / key


def read_all(array: ArrayRef) -> Pixels:
    return read(array, [slice(0, side) for side in array.shape])


def stock(folder: Path) -> Pixels:
    """What zarr-python alone reads."""
    return np.asarray(zarr.open_array(folder, mode="r")[...])


def data_files(folder: Path) -> list[Path]:
    """Shards, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")


def flip_byte(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def foreign_sample(store: Path, image: Pixels, path: str = "0", unit: str | None = "nanometer") -> Path:
    """A sample as any other OME-Zarr 0.5 software writes it: plain zarr, empty chunks left out, no ``emseg`` entry."""
    zarr.open_group(store, mode="a", zarr_format=3)
    zarr.open_group(store / "train", mode="a", zarr_format=3)
    group = zarr.open_group(store / "train" / "f", mode="a", zarr_format=3)
    names = ("z", "y", "x")[-image.ndim :]
    scale = [float(number + 2) for number in range(image.ndim)]
    axes = [{"name": name, "type": "space"} | ({"unit": unit} if unit else {}) for name in names]
    datasets = [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    entry: Any = {"version": "0.5", "multiscales": [{"name": "f", "axes": axes, "datasets": datasets}]}
    group.attrs["ome"] = entry
    chunks = tuple(min(64, side) for side in image.shape)
    array = zarr.create_array(store / "train" / "f" / path, shape=image.shape, dtype=image.dtype, chunks=chunks)
    array[...] = image
    return store / "train" / "f"


Shape = tuple[int, ...]
CODECS: dict[str | None, list[Any]] = {
    None: [],
    "zstd": [ZstdCodec(level=3)],
    "blosc": [BloscCodec(cname="lz4hc", clevel=5, shuffle="noshuffle")],
}


def write_array(
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
