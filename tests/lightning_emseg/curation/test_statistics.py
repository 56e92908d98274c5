"""Statistics of tiles whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from lightning_emseg.curation.statistics import statistics

Tile = NDArray[np.uint8]


def noise() -> Tile:
    random = np.random.default_rng(0)
    return np.clip(np.rint(random.normal(120, 20, (224, 224))), 0, 255).astype(np.uint8)


@given(st.integers(0, 255))
def test_constant_tile_has_no_entropy_or_edges(level: int) -> None:
    _, entropy, mean, edges = statistics(np.full((112, 130), level, np.uint8)).tolist()
    assert (entropy, edges) == (0, 0)
    # scikit-image's geometric mean is of grey + 1, and is rounded.
    assert abs(mean - level) <= 1


def test_step_tile_has_known_statistics() -> None:
    tile = np.full((200, 224), 40, np.uint8)
    tile[:, 100:] = 200
    _, entropy, mean, edges = statistics(tile).tolist()
    # One column of pixels, less those near the ends that Canny may lose.
    assert edges == pytest.approx(1 / 224, rel=0.05)
    assert abs(mean - 200) <= 1
    # Windows of 7 px cross the step in 6 columns, with 1 … 6 of 7 columns on one side.
    bits = [-sum(p * math.log2(p) for p in (k / 7, 1 - k / 7)) for k in range(1, 7)]
    assert entropy == pytest.approx(np.std(bits + [0.0] * (224 - 6)), rel=0.05)


def test_local_binary_patterns_match_their_definition() -> None:
    tile = noise()
    rows, columns = np.mgrid[:224, :224].astype(np.float64)
    code = np.zeros((224, 224))
    for bit in range(8):
        angle = 2 * math.pi * bit / 8
        places = [rows - round(8 * math.sin(angle), 5), columns + round(8 * math.cos(angle), 5)]
        code += 2.0**bit * (map_coordinates(tile.astype(np.float64), places, order=1, mode="grid-constant") >= tile)
    assert statistics(tile)[0] == pytest.approx(code.std(), rel=0.01)
