"""S_k against discs and ellipses of known area, and against plain comparison."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import pearsonr

from lightning_emseg.attribution.areas import (
    AREA,
    EXTENTS,
    SHADOW,
    VOLUME,
    Difference,
    Values,
    compare_fields,
    effective_reach,
    measure_sizes,
    normalise,
    pixels_above,
    summarise_accuracy,
)
from lightning_emseg.attribution.method import Field

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
FIELDS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=FINITE)


def ellipsoid(shape: tuple[int, ...], radii_px: tuple[float, ...]) -> Values:
    """One inside, little outside."""
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    distance = sum(((axis - side / 2) / radius) ** 2 for axis, side, radius in zip(axes, shape, radii_px, strict=True))
    return np.where(np.asarray(distance) <= 1, np.float32(1), np.float32(0.004))


def area(field: Values, k: float, pixel_size_nm: tuple[float, ...]) -> float:
    """S_k (Shi et al. 2021, eq. 10): an area in nm², of volumes a volume in nm³."""
    return measure_sizes(field, field.shape, pixel_size_nm, [k])[0].nm(0)


@pytest.mark.parametrize("k", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("pixel_size_nm", [(4.0, 4.0), (2.18, 2.18), (4.0, 10.0)])
def test_disc_has_its_area(k: float, pixel_size_nm: tuple[float, float]) -> None:
    radius_nm = 240.0
    radii = (radius_nm / pixel_size_nm[0], radius_nm / pixel_size_nm[1])
    found = area(ellipsoid((256, 250), radii), k, pixel_size_nm)
    # Counting is off by less than the pixels that the outline crosses.
    circumference_px = 2 * math.pi * max(radii)
    assert abs(found - math.pi * radius_nm**2) < circumference_px * math.prod(pixel_size_nm)
    assert found == pytest.approx(math.pi * radius_nm**2, rel=0.01)


def test_anisotropic_pixels_turn_discs_into_ellipses() -> None:
    found = area(ellipsoid((200, 200), (50, 50)), 0.01, (10.0, 3.0))
    assert found == pytest.approx(math.pi * (50 * 10) * (50 * 3), rel=0.01)


def test_ball_has_its_volume() -> None:
    found = area(ellipsoid((20, 90, 90), (8, 40, 40)), 0.01, (40.0, 8.0, 8.0))
    assert found == pytest.approx(4 / 3 * math.pi * 320**3, rel=0.02)


def test_only_what_is_greater_counts() -> None:
    field = np.array([0.01, np.nextafter(np.float32(0.01), np.float32(1)), -1, 1, 0], np.float32)
    # 0.01 is no float32: the threshold is rounded as the field is.
    assert pixels_above(field, [0.01, 0.0, 1.0, -1.0]).tolist() == [2, 3, 0, 4]
    assert area(field[None], 0.01, (1.0, 2.0)) == 4


def test_nan_and_empty_fields_exceed_no_threshold() -> None:
    assert pixels_above(np.array([np.nan, 0.5, np.nan], np.float32), [0.01, -1]).tolist() == [1, 1]
    assert pixels_above(np.zeros((0, 3), np.float32), [0.01]).tolist() == [0]
    assert pixels_above(np.ones(3, np.float32), []).tolist() == []


@given(field=FIELDS, data=st.data())
def test_pixel_counts_match_brute_force(field: Values, data: st.DataObject) -> None:
    # Thresholds that equal values of the field, among others.
    some = st.one_of(st.floats(-1, 1), st.sampled_from(field.ravel().tolist()))
    thresholds = data.draw(st.lists(some, max_size=6))
    found = pixels_above(field, thresholds)
    assert found.tolist() == [sum(bool(value > np.float32(k)) for value in field.ravel()) for k in thresholds]


@given(field=FIELDS)
def test_the_largest_magnitude_becomes_one(field: Values) -> None:
    before = field.copy()
    found = normalise(field)
    assert found.shape == field.shape
    assert found.dtype == np.float32
    np.testing.assert_array_equal(field, before)
    if field.any():
        assert np.abs(found).max() == 1
        largest = np.abs(field.astype(np.float64)).max()
        np.testing.assert_allclose(found, field / largest, rtol=1e-6, atol=1e-44)
    else:
        assert not found.any()


@given(field=FIELDS, factor=st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**10]))
def test_no_area_depends_on_the_scale_of_attributions(field: Values, factor: float) -> None:
    # Far from where single precision ends.
    field[np.abs(field) < 1e-20] = 0
    scaled = field * np.float32(factor)
    thresholds = [0.0, 0.01, 0.05, 0.1, 0.9]
    assert (pixels_above(normalise(scaled), thresholds) == pixels_above(normalise(field), thresholds)).all()


def test_field_of_zeros_has_no_area() -> None:
    zeros = normalise(np.zeros((3, 4), np.float32))
    assert not zeros.any()
    assert area(zeros, 0.0, (4.0, 4.0)) == 0


EXTENT_THRESHOLDS = (0.01, 0.25, 0.9)
EXTENT_FIELDS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-1, 1, width=32)
)


@given(field=EXTENT_FIELDS)
def test_shadow_counts_columns_with_any_section_above(field: Values) -> None:
    depth, height, width = field.shape
    for k, found in zip(EXTENT_THRESHOLDS, SHADOW.counts(field, EXTENT_THRESHOLDS), strict=True):
        columns = itertools.product(range(height), range(width))
        assert found == sum(any(field[z, y, x] > np.float32(k) for z in range(depth)) for y, x in columns)


@given(field=EXTENT_FIELDS)
def test_volume_counts_voxels_and_exceeds_shadow(field: Values) -> None:
    volume, shadow = measure_sizes(field, field.shape, (40.0, 4.0, 3.0), EXTENT_THRESHOLDS)
    for at, k in enumerate(EXTENT_THRESHOLDS):
        assert volume.nm(at) == area(field, k, (40.0, 4.0, 3.0)) == (field > np.float32(k)).sum() * 480.0
        assert shadow.nm(at) == shadow.counts[at] * 12.0
        assert shadow.counts[at] <= volume.counts[at] <= field.shape[0] * shadow.counts[at]
        assert 0 <= volume.share(at) <= shadow.share(at) <= 1


def test_box_has_its_volume_and_base() -> None:
    field = np.zeros((9, 20, 30), np.float32)
    field[2:6, 3:10, 4:9] = 0.5
    volume, shadow = measure_sizes(field, (10, 40, 30), (40.0, 4.0, 3.0), [0.1])
    assert (volume.nm(0), shadow.nm(0)) == (4 * 40 * 7 * 4 * 5 * 3, 7 * 4 * 5 * 3)
    assert (volume.share(0), shadow.share(0)) == (140 / 12000, 35 / 1200)


def test_nan_values_do_not_count() -> None:
    field = np.full((2, 1, 3), np.nan, np.float32)
    field[0, 0, :2] = (0.5, -0.5)
    assert VOLUME.counts(field, [0.1]).tolist() == SHADOW.counts(field, [0.1]).tolist() == [1]
    assert SHADOW.counts(np.zeros((0, 2, 2), np.float32), [0.1]).tolist() == [0]


def test_images_have_only_an_area() -> None:
    assert EXTENTS[2] == (AREA,)
    assert [AREA.column, AREA.place_column] == ["S_nm2", "pixel_nm2"]
    assert [extents[-1].axes for extents in EXTENTS.values()] == [2, 2]


@pytest.mark.parametrize("axes", EXTENTS)
def test_no_two_extents_share_a_name(axes: int) -> None:
    names = [name for each in EXTENTS[axes] for name in (each.column, each.place_column, each.title)]
    assert len(set(names)) == len(names)


THRESHOLDS = (0.01, 0.1)
WHOLE = hnp.arrays(np.float32, (5, 6), elements=st.integers(-50, 50).map(float))


def field_of(values: Sequence[Sequence[float]], pixel: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Field:
    return Field(pixel, origin, np.array(values, np.float32), 0.0, 0.0)


@given(fast=WHOLE, exact=WHOLE)
def test_comparison_uses_normalised_fields(fast: Values, exact: Values) -> None:
    found = compare_fields(fast, exact, THRESHOLDS)
    for areas, field in ((found.areas, fast), (found.exact_areas, exact)):
        largest = np.abs(field).max() or 1
        assert areas == tuple(int((field / np.float32(largest) > np.float32(k)).sum()) for k in THRESHOLDS)
    if fast.std() > 0 and exact.std() > 0:
        assert found.correlation == pytest.approx(pearsonr(fast.ravel(), exact.ravel())[0], abs=1e-5)


def test_flat_fields_correlate_only_with_equals() -> None:
    zeros, ones = np.zeros((3, 3), np.float32), np.ones((3, 3), np.float32)
    other = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert compare_fields(zeros, zeros, THRESHOLDS).correlation == 1
    assert compare_fields(zeros, ones, THRESHOLDS).correlation == 0
    assert compare_fields(zeros, other, THRESHOLDS).correlation == 0
    assert compare_fields(other, other, THRESHOLDS).correlation == pytest.approx(1)
    assert compare_fields(-other, other, THRESHOLDS).correlation == pytest.approx(-1)


def test_summary_matches_hand_computed_sample() -> None:
    differences = [
        Difference((110, 8), (100, 10), 0.9),
        Difference((45, 0), (50, 0), 0.7),
        Difference((3, 4), (0, 4), 1),
    ]
    found = summarise_accuracy(differences, THRESHOLDS)
    assert found is not None
    assert (found.thresholds, found.pixels) == (THRESHOLDS, 3)
    # Where the exact area is 0, its error is in pixels.
    np.testing.assert_allclose(found.mean_error, [(0.1 + 0.1 + 3) / 3, (0.2 + 0 + 0) / 3])
    np.testing.assert_allclose(found.largest_error, [3, 0.2])
    np.testing.assert_allclose(found.bias, [158 / 150 - 1, 12 / 14 - 1])
    assert found.correlation == pytest.approx(2.6 / 3)
    assert found.smallest_correlation == 0.7


def test_an_empty_sample_has_no_accuracy() -> None:
    assert summarise_accuracy([], THRESHOLDS) is None


def test_reach_matches_hand_made_field() -> None:
    # Above 0.1 of the largest: distances 0, 1, 2 and 4; the value at distance 5 is below, the negative one against.
    row = [0.9, 0.05, 10.0, 4.0, 1.1, -9.0, 2.0, 0.2]
    assert effective_reach([field_of([row], (0, 2))], 0.1) == (4, 4)
    # The same field, cut out of a larger window.
    assert effective_reach([field_of([row], (7, 12), origin=(7, 10))], 0.1) == (4, 4)


@pytest.mark.parametrize(("far", "reach"), [(1, 2), (2, 2), (3, 30)])
def test_one_percent_may_lie_beyond_reach(far: int, reach: int) -> None:
    # Two of 201 pixels are less than 1 %, three are more.
    fields = [field_of([[1.0]], (0, 2))] * (201 - far) + [field_of([[1.0]], (0, 30))] * far
    assert effective_reach(fields, 0.1) == (reach, reach)


def test_the_reach_is_at_least_one() -> None:
    zeros = field_of([[0.0, 0.0], [0.0, 0.0]], (0, 0))
    point = field_of([[1.0, 0.0], [0.0, 0.0]], (0, 0))
    assert effective_reach([zeros], 0.01) == effective_reach([point, zeros], 0.01) == (1, 1)
    volume = Field((0, 0, 0), (0, 0, 0), np.ones((1, 1, 1), np.float32), 0.0, 0.0)
    assert effective_reach([volume], 0.01) == (1, 1, 1)


@given(data=st.data())
def test_reach_is_smallest_that_keeps_the_share(data: st.DataObject) -> None:
    values = data.draw(
        st.lists(hnp.arrays(np.float32, (6, 50), elements=st.floats(-1, 1, width=32)), min_size=1, max_size=3)
    )
    pixels = [(data.draw(st.integers(0, 5)), data.draw(st.integers(0, 49))) for _ in values]
    fields = [Field(pixel, (0, 0), each, 0.0, 0.0) for pixel, each in zip(pixels, values, strict=True)]
    distances: list[int] = []
    for (y, x), each in zip(pixels, values, strict=True):
        largest = np.abs(each).max() or np.float32(1)
        above = np.argwhere(each / largest > np.float32(0.05))
        distances += [max(abs(int(a) - y), abs(int(b) - x)) for a, b in above]
    reach = effective_reach(fields, 0.05)[0]
    assert sum(each <= reach for each in distances) >= 0.99 * len(distances) - 1e-9
    if reach > 1:
        assert sum(each < reach for each in distances) <= 0.99 * (len(distances) - 1) + 1


def test_sections_have_a_reach_of_their_own() -> None:
    values = np.zeros((9, 41, 41), np.float32)
    values[3:6, 10:31, 10:31] = 1
    assert effective_reach([Field((4, 20, 20), (0, 0, 0), values, 0.0, 0.0)], 0.01) == (1, 10, 10)


def test_reach_keeps_the_share_of_a_volume() -> None:
    random = np.random.default_rng(2)
    places = random.normal((8, 40, 40), (1.5, 8, 8), (400, 3)).round().astype(int)
    values = np.zeros((17, 81, 81), np.float32)
    values[tuple(places.clip(0, (16, 80, 80)).T)] = 1
    reach = effective_reach([Field((8, 40, 40), (0, 0, 0), values, 0.0, 0.0)], 0.01)
    inside = values[8 - reach[0] : 9 + reach[0], 40 - reach[1] : 41 + reach[1], 40 - reach[2] : 41 + reach[2]]
    assert inside.sum() >= 0.99 * values.sum()
    assert reach[1] == reach[2] > reach[0]
