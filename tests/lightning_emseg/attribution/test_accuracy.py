"""Errors of fields and their reach against numpy and scipy."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import pearsonr

from lightning_emseg.attribution.accuracy import Difference, compare, effective_reach, summarise
from lightning_emseg.attribution.area import Values
from lightning_emseg.attribution.fields import Field

THRESHOLDS = (0.01, 0.1)
WHOLE = hnp.arrays(np.float32, (5, 6), elements=st.integers(-50, 50).map(float))


def field_of(values: Sequence[Sequence[float]], pixel: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Field:
    return Field(pixel, origin, np.array(values, np.float32), 0.0, 0.0)


@given(fast=WHOLE, exact=WHOLE)
def test_comparison_uses_normalised_fields(fast: Values, exact: Values) -> None:
    found = compare(fast, exact, THRESHOLDS)
    for areas, field in ((found.areas, fast), (found.exact_areas, exact)):
        largest = np.abs(field).max() or 1
        assert areas == tuple(int((field / np.float32(largest) > np.float32(k)).sum()) for k in THRESHOLDS)
    if fast.std() > 0 and exact.std() > 0:
        assert found.correlation == pytest.approx(pearsonr(fast.ravel(), exact.ravel())[0], abs=1e-5)


def test_flat_fields_correlate_only_with_equals() -> None:
    zeros, ones = np.zeros((3, 3), np.float32), np.ones((3, 3), np.float32)
    other = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert compare(zeros, zeros, THRESHOLDS).correlation == 1
    assert compare(zeros, ones, THRESHOLDS).correlation == 0
    assert compare(zeros, other, THRESHOLDS).correlation == 0
    assert compare(other, other, THRESHOLDS).correlation == pytest.approx(1)
    assert compare(-other, other, THRESHOLDS).correlation == pytest.approx(-1)


def test_summary_matches_hand_computed_sample() -> None:
    differences = [
        Difference((110, 8), (100, 10), 0.9),
        Difference((45, 0), (50, 0), 0.7),
        Difference((3, 4), (0, 4), 1),
    ]
    found = summarise(differences, THRESHOLDS)
    assert found is not None
    assert (found.thresholds, found.pixels) == (THRESHOLDS, 3)
    # Where the exact area is 0, its error is in pixels.
    np.testing.assert_allclose(found.mean_error, [(0.1 + 0.1 + 3) / 3, (0.2 + 0 + 0) / 3])
    np.testing.assert_allclose(found.largest_error, [3, 0.2])
    np.testing.assert_allclose(found.bias, [158 / 150 - 1, 12 / 14 - 1])
    assert found.correlation == pytest.approx(2.6 / 3)
    assert found.smallest_correlation == 0.7


def test_an_empty_sample_has_no_accuracy() -> None:
    assert summarise([], THRESHOLDS) is None


def test_reach_matches_hand_made_field() -> None:
    # Above 0.1 of the largest: distances 0, 1, 2 and 4; the value at distance 5 is below, the negative one against.
    row = [0.9, 0.05, 10.0, 4.0, 1.1, -9.0, 2.0, 0.2]
    assert effective_reach([field_of([row], (0, 2))], 0.1, kept=1.0) == (4, 4)
    assert effective_reach([field_of([row], (0, 2))], 0.1, kept=0.75) == (4, 4)
    assert effective_reach([field_of([row], (0, 2))], 0.1, kept=0.5) == (2, 2)
    # The same field, cut out of a larger window.
    assert effective_reach([field_of([row], (7, 12), origin=(7, 10))], 0.1, kept=1.0) == (4, 4)


def test_the_reach_is_at_least_one() -> None:
    zeros = field_of([[0.0, 0.0], [0.0, 0.0]], (0, 0))
    point = field_of([[1.0, 0.0], [0.0, 0.0]], (0, 0))
    assert effective_reach([zeros], 0.01) == effective_reach([point, zeros], 0.01) == (1, 1)
    volume = Field((0, 0, 0), (0, 0, 0), np.ones((1, 1, 1), np.float32), 0.0, 0.0)
    assert effective_reach([volume], 0.01) == (1, 1, 1)


@given(data=st.data(), kept=st.floats(0.1, 1.0))
def test_reach_is_smallest_that_keeps_the_share(data: st.DataObject, kept: float) -> None:
    values = data.draw(
        st.lists(hnp.arrays(np.float32, (6, 7), elements=st.floats(-1, 1, width=32)), min_size=1, max_size=3)
    )
    pixels = [(data.draw(st.integers(0, 5)), data.draw(st.integers(0, 6))) for _ in values]
    fields = [Field(pixel, (0, 0), each, 0.0, 0.0) for pixel, each in zip(pixels, values, strict=True)]
    distances: list[int] = []
    for (y, x), each in zip(pixels, values, strict=True):
        largest = np.abs(each).max() or np.float32(1)
        above = np.argwhere(each / largest > np.float32(0.05))
        distances += [max(abs(int(a) - y), abs(int(b) - x)) for a, b in above]
    reach = effective_reach(fields, 0.05, kept)[0]
    assert sum(each <= reach for each in distances) >= kept * len(distances) - 1e-9
    if reach > 1:
        assert sum(each < reach for each in distances) <= kept * (len(distances) - 1) + 1


def test_sections_have_a_reach_of_their_own() -> None:
    values = np.zeros((9, 41, 41), np.float32)
    values[3:6, 10:31, 10:31] = 1
    assert effective_reach([Field((4, 20, 20), (0, 0, 0), values, 0.0, 0.0)], 0.01) == (1, 10, 10)


def test_reach_keeps_the_share_of_a_volume() -> None:
    random = np.random.default_rng(2)
    places = random.normal((8, 40, 40), (1.5, 8, 8), (400, 3)).round().astype(int)
    values = np.zeros((17, 81, 81), np.float32)
    values[tuple(places.clip(0, (16, 80, 80)).T)] = 1
    reach = effective_reach([Field((8, 40, 40), (0, 0, 0), values, 0.0, 0.0)], 0.01, kept=0.9)
    inside = values[8 - reach[0] : 9 + reach[0], 40 - reach[1] : 41 + reach[1], 40 - reach[2] : 41 + reach[2]]
    assert inside.sum() >= 0.9 * values.sum()
    assert reach[1] == reach[2] > reach[0]
