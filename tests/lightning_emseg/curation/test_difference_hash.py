"""Against the definition, written out pixel by pixel, and against what happens to a picture."""

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lightning_emseg.curation.correlation import correlation, fingerprint
from lightning_emseg.curation.difference_hash import difference_hash


def cells(seed: int, side: tuple[int, int] = (224, 224)) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(30, 220, (9, 9), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(side[::-1], Image.Resampling.BICUBIC))


@settings(max_examples=20, deadline=None)
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


def test_correlation_ignores_brightness() -> None:
    one, brighter = cells(1), (cells(1) * 0.7 + 60).astype(np.uint8)
    assert correlation(fingerprint(one), fingerprint(one)) > 0.9999
    assert correlation(fingerprint(one), fingerprint(brighter)) > 0.999
    assert correlation(fingerprint(one), fingerprint(255 - one)) < -0.999
    assert abs(correlation(fingerprint(one), fingerprint(cells(2)))) < 0.6
    blank = fingerprint(np.full((200, 150), 13, np.uint8))
    assert correlation(blank, blank) == 1
    assert correlation(blank, fingerprint(one)) == 0


def test_correlation_matches_numpy_on_block_means() -> None:
    one, other = cells(3).astype(np.float64), cells(4).astype(np.float64)
    means = [tile.reshape(56, 4, 56, 4).mean((1, 3)).ravel() for tile in (one, other)]
    expected = np.corrcoef(*means)[0, 1]
    found = correlation(fingerprint(cells(3)), fingerprint(cells(4)))
    assert abs(found - expected) < 1e-4
