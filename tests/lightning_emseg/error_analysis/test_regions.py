"""Worst windows against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lightning_emseg.error_analysis.error_map import Outcome
from lightning_emseg.error_analysis.regions import worst_regions

CODES = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 255])


@given(
    arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 24)] * 2), elements=CODES),
    st.integers(1, 10),
    st.integers(1, 5),
)
def test_each_region_is_worst_of_the_remaining(codes: NDArray[np.uint8], side: int, most: int) -> None:
    regions = worst_regions(codes, side, most)
    real = (codes == Outcome.FALSE_POSITIVE) | (codes == Outcome.FALSE_NEGATIVE)
    step = -(-side // 8)
    size = tuple(min(side, extent) for extent in codes.shape)
    starts = [
        sorted({*range(0, extent - part + 1, step), extent - part})
        for extent, part in zip(codes.shape, size, strict=True)
    ]
    free = {(y, x): int(real[y : y + size[0], x : x + size[1]].sum()) for y, x in itertools.product(*starts)}
    for region in regions:
        assert region.size == size
        assert region.error_px == free[region.origin] == real[region.slices].sum() == max(free.values()) > 0
        y, x = region.origin
        free = {
            place: errors
            for place, errors in free.items()
            if abs(place[0] - y) >= size[0] or abs(place[1] - x) >= size[1]
        }
    assert len(regions) == most or max(free.values(), default=0) == 0


def test_clusters_are_found_in_large_maps() -> None:
    codes = np.full((3000, 2500), Outcome.TOLERATED_FALSE_NEGATIVE, np.uint8)
    codes[1700:1750, 640:700] = Outcome.FALSE_NEGATIVE
    codes[20:30, 2480:] = Outcome.FALSE_POSITIVE
    first, second = worst_regions(codes, side=256, most=6)
    assert (first.error_px, second.error_px) == (50 * 60, 10 * 20)
    assert first.origin[0] <= 1700
    assert first.origin[0] + 256 >= 1750
    assert second.slices[1].stop == 2500


def test_map_without_real_errors_has_no_region() -> None:
    assert worst_regions(np.full((50, 50), Outcome.TOLERATED_FALSE_POSITIVE, np.uint8)) == []


def test_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="windows of a plane"):
        worst_regions(np.zeros((3, 4, 5), np.uint8))
