"""Raw images for guard.py, which runs this as a script: ``guard_data.py FOLDER``.

Images with class labels, images with borders, volumes with clefts, and micrographs with near-duplicates, all from one
seed.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Array = NDArray[Any]


def write_classes(folder: Path, draw: np.random.Generator) -> None:
    """Write images and labels with the values 0, 5, 9 and 255, which is to be ignored."""
    shapes = {"train/s0": (120, 150), "train/s1": (140, 110), "val/s0": (100, 130)}
    for name, shape in {**shapes, "test/s0": (90, 120), "test/s1": (110, 80)}.items():
        label = np.where(blobs(draw, shape, 6) > 0.8, 5, np.where(blobs(draw, shape, 5) > 0.9, 9, 0)).astype(np.uint8)
        label[:3] = 255
        save(folder / "labels" / f"{name}.png", label)
        save(folder / "images" / f"{name}.png", grey(draw, 150 - 60.0 * (label == 5) + 50.0 * (label == 9)))


def write_borders(folder: Path, draw: np.random.Generator) -> None:
    """Write images, their dark borders, and thicker ones as a prediction."""
    for name in ("s0.png", "s1.png"):
        distance = np.abs(blobs(draw, (130, 140), 5))
        save(folder / "borders" / name, np.where(distance < 0.2, 0, 255).astype(np.uint8))
        save(folder / "thick_borders" / name, np.where(distance < 0.25, 0, 255).astype(np.uint8))
        save(folder / "images_with_borders" / name, grey(draw, 170 - 90.0 * (distance < 0.2)))


def write_clefts(folder: Path, draw: np.random.Generator) -> None:
    """Write volumes and masks of few voxels."""
    for split, shape in {"train": (12, 64, 72), "val": (8, 48, 56), "test": (9, 56, 50)}.items():
        cleft = blobs(draw, shape, (1, 3, 3)) > 1.3
        save(folder / f"{split}.tif", grey(draw, 160 - 80.0 * cleft))
        save(folder / f"{split}_clefts.tif", (255 * cleft).astype(np.uint8))


def write_micrographs(folder: Path, draw: np.random.Generator) -> None:
    """Write two images, and the first again, brighter."""
    one, other = (grey(draw, 128 + 40 * blobs(draw, (680, 700), 4)) for _ in range(2))
    bright = np.clip(one.astype(int) + 9, 0, 255).astype(np.uint8)
    for name, pixels in {"one": one, "other": other, "bright": bright}.items():
        save(folder / "micrographs" / f"{name}.png", pixels)


def blobs(draw: np.random.Generator, shape: tuple[int, ...], width: float | tuple[float, ...]) -> Array:
    """Smooth noise of mean 0 and standard deviation 1."""
    smooth = gaussian_filter(draw.normal(size=shape), width)
    return np.asarray((smooth - smooth.mean()) / smooth.std())


def grey(draw: np.random.Generator, level: Array) -> Array:
    """Noisy 8-bit image."""
    return np.clip(level + draw.normal(0, 12, level.shape), 0, 255).astype(np.uint8)


def save(path: Path, pixels: Array) -> None:
    """Write an image, or a volume as a stack of pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 2:
        Image.fromarray(pixels).save(path)
    else:
        first, *others = map(Image.fromarray, pixels)
        first.save(path, save_all=True, append_images=others)


if __name__ == "__main__":
    generator = np.random.default_rng(7)
    for write in (write_classes, write_borders, write_clefts, write_micrographs):
        write(Path(sys.argv[1]), generator)
