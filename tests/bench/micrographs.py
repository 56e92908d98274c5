"""A large mosaic for the readers: real electron micrographs side by side where there are any, else synthetic pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.bench.harness import synthetic_image, synthetic_mask
from tests.support import DATA

Pixels = NDArray[np.uint8]
REAL = DATA / "vnc_sstem" / "stack1"
"""16 sections of 1024² px of serial-section TEM with membranes."""
TILE = 1024


def mosaic(shape: tuple[int, int]) -> tuple[Pixels, Pixels, str]:
    """Image, membrane mask (0 or 1), and what they are.

    Args:
        shape: ``(Y, X)`` in px, multiples of 1024.
    """
    sections = sorted((REAL / "raw").glob("*.png"))
    if not sections:
        return synthetic_image(shape), synthetic_mask(shape), "synthetic pixels"
    image, mask = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    order = np.random.default_rng(0)
    for y in range(0, shape[0], TILE):
        for x in range(0, shape[1], TILE):
            section = sections[int(order.integers(len(sections)))]
            turn = int(order.integers(4))
            place = slice(y, y + TILE), slice(x, x + TILE)
            image[place] = np.rot90(np.asarray(Image.open(section)), turn)
            mask[place] = np.rot90(np.asarray(Image.open(REAL / "membranes" / section.name)) > 0, turn)
    return image, mask, "real ssTEM"
