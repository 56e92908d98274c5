"""What the data tests share: small stores with known pixels, made once and read through the package."""

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
