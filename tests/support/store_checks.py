"""Small stores with known pixels for tests: how they are written, read and damaged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from data_modules.store import ArrayRef, LabelInfo, MosaicStore, MosaicView, SampleWriter, read

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


Bytes = NDArray[np.uint8]


def binary(shape: tuple[int, ...], seed: int = 1, share: float = 0.2) -> Bytes:
    return (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)


def write_mosaic(
    store: Path,
    key: str,
    image: Bytes,
    mask: Bytes | None = None,
    label: str = "membrane",
    pixel_size_nm: float = 4.0,
) -> None:
    labels = {} if mask is None else {label: (LabelInfo("binary"), mask)}
    write_sample(store, image, labels, key, pixel_size_nm=(pixel_size_nm,) * image.ndim)


def write_random(store: Path, sizes: dict[str, tuple[int, ...]]) -> dict[str, tuple[Bytes, Bytes]]:
    """Mosaics of noise under the keys given, and what was written."""
    written = {}
    for number, (key, shape) in enumerate(sizes.items()):
        written[key] = (noise(shape, seed=2 * number), binary(shape, seed=2 * number + 1))
        write_mosaic(store, key, *written[key])
    return written


def views(store: Path, split: str = "train", label: str | None = "membrane") -> list[MosaicView]:
    return [MosaicView.of(sample, label) for sample in MosaicStore(store).samples(split)]


NAMES = ["background", "mito", "golgi"]
CUBIC = (5.0, 4.2, 4.2)
FLAT = (40.0, 4.0, 4.0)
VOLUMES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "train/cube": ((20, 24, 22), CUBIC),
    "train/image": ((33, 40), (4.0, 4.0)),
    "train/stack": ((5, 28, 36), FLAT),
    "val/cube": ((18, 17, 21), CUBIC),
    "val/image": ((30, 19), (4.0, 4.0)),
    "val/stack": ((3, 20, 34), FLAT),
}
PlaneStore = tuple[Path, dict[str, tuple[Bytes, Bytes]]]


def write_planes(store: Path, keys: Sequence[str]) -> dict[str, tuple[Bytes, Bytes]]:
    written = {}
    for number, key in enumerate(keys):
        shape, size = VOLUMES[key]
        image = noise(shape, seed=number)
        mask = np.array([0, 1, 2, 255], np.uint8)[
            np.random.default_rng(100 + number).choice(4, shape, p=[0.5, 0.2, 0.2, 0.1])
        ]
        info = LabelInfo("classes", dict(enumerate(NAMES)))
        write_sample(store, image, {"organelles": (info, mask)}, key, pixel_size_nm=size)
        written[key] = (image, mask)
    return written


def plane_view(mixed: PlaneStore, key: str) -> MosaicView:
    return MosaicView.of(MosaicStore(mixed[0]).sample(key), "organelles", classes=NAMES)
