"""Small tile sets whose sources differ in texture, for tests of pretraining."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from data_modules.tile_set import SIDE, Source, SourceWriter

SOURCES: Mapping[str, int] = {"coarse": 12, "fine": 14}


def textures(number: int, width_px: float, seed: int) -> NDArray[np.uint8]:
    """Smoothed noise ``uint8 (number, 224, 224)``."""
    random = np.random.default_rng(seed)
    fields = gaussian_filter(random.normal(size=(number, SIDE, SIDE)), (0, width_px, width_px))
    grey: NDArray[np.uint8] = np.clip(120 + 10 * seed + 40 * fields / fields.std(), 0, 255).astype(np.uint8)
    return grey


def make_tile_set(path: Path, sources: Mapping[str, int] = SOURCES) -> dict[str, NDArray[np.uint8]]:
    """Write a set and return its tiles; the last one of each source is only 150 × 120 px."""
    made = {}
    for seed, (name, number) in enumerate(sources.items()):
        tiles = textures(number, 6.0 / (1 + 3 * seed), seed)
        positions = np.tile(np.array([0, 0, 0, 0, SIDE, SIDE], np.int32), (number, 1))
        positions[-1, 4:] = 150, 120
        tiles[-1, 150:], tiles[-1, :, 120:] = 0, 0
        with SourceWriter(path, Source(name, f"{name}.tif", (8.0, 4.0, 2.0)), number) as writer:
            writer.write(tiles, positions)
        made[name] = tiles
    return made


def cells(seed: int, shape: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.uint8]:
    """Smooth random blobs ``uint8 (Y, X)``: 9 × 9 grey levels, enlarged."""
    coarse = np.random.default_rng(seed).integers(30, 220, (9, 9), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))


def write_source(path: Path, name: str, tiles: NDArray[np.uint8]) -> None:
    """Add a source of whole tiles ``uint8 (number, 224, 224)`` to the set at ``path``."""
    positions = np.tile(np.array([0, 0, 0, 0, SIDE, SIDE], np.int32), (len(tiles), 1))
    with SourceWriter(path, Source(name, name), len(tiles)) as writer:
        writer.write(tiles, positions)
