"""Blocks of a volume are read once, and shrunk to means of boxes."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.images.image import Header
from data_modules.tiling.blocks import Shrink, blocks, shrink_for, shrunk

SIDES = st.integers(1, 700)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 2000), st.integers(1, 900)),
    depth=st.integers(1, 70),
    z=st.integers(1, 3),
    lateral=st.integers(1, 3),
    block=st.integers(1, 10**6),
)
@example(shape=(1, 2000, 10), depth=1, z=1, lateral=1, block=3 * 224 * 10)
@example(shape=(40, 300, 7), depth=4, z=3, lateral=1, block=300 * 7 * 9)
def test_blocks_cover_volumes_and_cut_no_tile(
    shape: tuple[int, int, int], depth: int, z: int, lateral: int, block: int
) -> None:
    shrink = Shrink(min(z, shape[0]), lateral)
    covered = np.zeros(shape[:2], np.int64)
    small = np.zeros(shrink.shape(shape)[:2], np.int64)
    for region in blocks(Header("", shape, np.dtype(np.uint8), depth=depth), shrink, block):
        covered[region[:2]] += 1
        assert region[2] == slice(0, shape[2])
        assert region[0].start % shrink.z == 0
        assert region[1].start % (224 * lateral) == 0
        size = math.prod(part.stop - part.start for part in region)
        assert size <= max(block, shrink.z * min(224 * lateral, shape[1]) * shape[2])
        small[shrunk(region, shrink)[:2]] += 1
    assert (covered == 1).all()
    assert (small == 1).all()


def test_shrinking_is_the_mean_of_boxes() -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (5, 7, 9))
    small = Shrink(2, 3).apply(pixels)
    assert small.shape == Shrink(2, 3).shape((5, 7, 9)) == (2, 2, 3)
    assert small[1, 0, 2] == pytest.approx(pixels[2:4, 0:3, 6:9].mean())
    assert Shrink(2, 3).pixel_size((8.0, 4.0, 4.0)) == (16, 12, 12)
    assert Shrink(1, 3).pixel_size((4.0, 4.0)) == (12, 12)


@given(shape=st.tuples(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99)), limit=st.integers(1000, 50_000))
def test_the_smallest_factor_below_the_limit_is_taken(shape: tuple[int, int, int], limit: int) -> None:
    factor = shrink_for(shape, False, limit).lateral
    assert math.prod(Shrink(1, factor).shape(shape)) <= limit
    assert factor == 1 or math.prod(Shrink(1, factor - 1).shape(shape)) > limit
