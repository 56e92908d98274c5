"""What the converter tests share: small images, and reading a store back with stock zarr alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image

from tests.support import DATA

Pixels = NDArray[Any]
_DATA = DATA


def picture(seed: int = 0, shape: tuple[int, int] = (40, 56)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def object_mask(seed: int = 1, shape: tuple[int, int] = (40, 56)) -> NDArray[np.bool_]:
    """``True`` where the object is: a fifth of the pixels."""
    mask: NDArray[np.bool_] = np.random.default_rng(seed).random(shape) < 0.2
    return mask


def dark(mask: Pixels) -> NDArray[np.uint8]:
    """An 8-bit mask file whose object is 0 and whose background is 255."""
    return np.where(mask, 0, 255).astype(np.uint8)


def save(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def stored(store: Path, key: str, label: str | None = None) -> Pixels:
    return np.asarray(zarr.open_array(_group(store, key, label) / "0", mode="r")[:])


def attributes(store: Path, key: str, label: str | None = None) -> dict[str, Any]:
    return dict(zarr.open_group(_group(store, key, label), mode="r").attrs)


def provenance(store: Path, key: str, label: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = attributes(store, key, label)["emseg"]["provenance"]
    return found


def pixel_size(store: Path, key: str) -> list[float]:
    dataset = attributes(store, key)["ome"]["multiscales"][0]["datasets"][0]
    scale: list[float] = dataset["coordinateTransformations"][0]["scale"]
    return scale


def real_data(name: str) -> Path:
    if not (_DATA / name).is_dir():
        pytest.skip(f"real data set {name} is not beside the repository")
    return _DATA / name


def _group(store: Path, key: str, label: str | None) -> Path:
    return store / key if label is None else store / key / "labels" / label
