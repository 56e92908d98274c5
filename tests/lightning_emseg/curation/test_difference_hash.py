"""Difference hashes against their definition, pixel by pixel, and under changes of the picture."""

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_emseg.curation.difference_hash import difference_hash
from tests.support.tile_sets import cells


@given(seed=st.integers(0, 999), height=st.integers(112, 224), width=st.integers(112, 224))
def test_bits_compare_neighbours_from_the_top_left(seed: int, height: int, width: int) -> None:
    tile = cells(seed, (height, width))
    small = Image.fromarray(tile).resize((9, 8), Image.Resampling.LANCZOS)
    text = "".join(
        "1" if small.getpixel((x + 1, y)) > small.getpixel((x, y)) else "0"  # type: ignore[operator]
        for y in range(8)
        for x in range(8)
    )
    assert int(difference_hash(tile)) == int(text, 2)


@pytest.mark.parametrize("side", [(224, 224), (224, 130), (112, 200)])
def test_hash_matches_the_papers_package(side: tuple[int, int]) -> None:
    for seed in range(20):
        tile = cells(seed, side)
        assert int(difference_hash(tile)) == int(str(imagehash.dhash(Image.fromarray(tile))), 16)


def test_noise_and_brightness_move_few_bits() -> None:
    tile = cells(1).astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 8, tile.shape)
    changed = np.rint((0.8 * tile + 20 + noise).clip(0, 255)).astype(np.uint8)
    own = int(difference_hash(cells(1)))
    assert (own ^ int(difference_hash(changed))).bit_count() <= 4
    others = [(own ^ int(difference_hash(cells(seed)))).bit_count() for seed in range(2, 40)]
    assert np.mean(others) > 20


def test_constant_tile_has_no_bits() -> None:
    assert difference_hash(np.full((224, 224), 90, np.uint8)) == 0
