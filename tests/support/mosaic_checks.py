"""What the data tests share: small stores with known pixels, made once and read through the package."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter

Bytes = NDArray[np.uint8]


def grey(shape: tuple[int, ...], seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


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
    split, name = key.split("/")
    with SampleWriter(store, split, name, image.shape, (pixel_size_nm,) * image.ndim) as sample:
        sample.image.write(image)
        if mask is not None:
            sample.add_label(label, LabelInfo("binary")).write(mask)


def write_random(store: Path, sizes: dict[str, tuple[int, ...]]) -> dict[str, tuple[Bytes, Bytes]]:
    """Mosaics of noise under the keys given, and what was written."""
    written = {}
    for number, (key, shape) in enumerate(sizes.items()):
        written[key] = (grey(shape, seed=2 * number), binary(shape, seed=2 * number + 1))
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
        image = grey(shape, seed=number)
        mask = np.array([0, 1, 2, 255], np.uint8)[
            np.random.default_rng(100 + number).choice(4, shape, p=[0.5, 0.2, 0.2, 0.1])
        ]
        split, name = key.split("/")
        with SampleWriter(store, split, name, shape, size) as sample:
            sample.image.write(image)
            sample.add_label("organelles", LabelInfo("classes", dict(enumerate(NAMES)))).write(mask)
        written[key] = (image, mask)
    return written


def plane_view(mixed: PlaneStore, key: str) -> MosaicView:
    return MosaicView.of(MosaicStore(mixed[0]).sample(key), "organelles", classes=NAMES)
