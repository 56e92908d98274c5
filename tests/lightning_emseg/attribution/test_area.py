"""S_k against discs and ellipses of known area, and against plain comparison."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_emseg.attribution.area import Values, area, normalised, pixels_above

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
FIELDS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=FINITE)


def ellipsoid(shape: tuple[int, ...], radii_px: tuple[float, ...]) -> Values:
    """One inside, little outside."""
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    distance = sum(((axis - side / 2) / radius) ** 2 for axis, side, radius in zip(axes, shape, radii_px, strict=True))
    return np.where(np.asarray(distance) <= 1, np.float32(1), np.float32(0.004))


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
    assert area(field, 0.01, (2.0,)) == 4


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
    found = normalised(field)
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
    assert (pixels_above(normalised(scaled), thresholds) == pixels_above(normalised(field), thresholds)).all()


def test_field_of_zeros_has_no_area() -> None:
    zeros = normalised(np.zeros((3, 4), np.float32))
    assert not zeros.any()
    assert area(zeros, 0.0, (4.0, 4.0)) == 0
