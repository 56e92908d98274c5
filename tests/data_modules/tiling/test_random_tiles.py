"""Random tiles are distinct places inside the source, and depend on the seed alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_modules.tiling.blocks import Shrink
from data_modules.tiling.cutting import Plan
from data_modules.tiling.random_tiles import random_places


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400)),
    number=st.integers(1, 60),
    seed=st.integers(0, 9),
    three=st.booleans(),
)
def test_random_places_are_different_and_inside(
    shape: tuple[int, int, int], number: int, seed: int, three: bool
) -> None:
    plan = Plan(("xy", "xz", "yz") if three else ("xy",), Shrink(), shape)
    places = random_places(plan, number, seed)
    assert len({tuple(place) for place in places.tolist()}) == len(places) <= number
    for plane, section, y, x, height, width in places.tolist():
        rows, columns = (side for axis, side in enumerate(shape) if axis != plane)
        assert (height, width) == (min(rows, 224), min(columns, 224))
        assert min(height, width) >= 112
        assert 0 <= section < shape[plane]
        assert 0 <= y <= rows - height
        assert 0 <= x <= columns - width
    np.testing.assert_array_equal(places, random_places(plan, number, seed))


def test_few_places_are_all_taken() -> None:
    places = random_places(Plan(("xy",), Shrink(), (3, 224, 225)), 100, 0)
    assert len(places) == 6
    assert len(random_places(Plan(("xy",), Shrink(), (3, 111, 225)), 100, 0)) == 0
