"""What is reported of fields of two and of three axes, against counts by plain loops."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_emseg.attribution.area import Values, area
from lightning_emseg.attribution.extent import AREA, EXTENTS, SHADOW, VOLUME, sizes_of

THRESHOLDS = (0.01, 0.25, 0.9)
FIELDS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-1, 1, width=32)
)


@given(field=FIELDS)
def test_shadow_counts_columns_with_any_section_above(field: Values) -> None:
    depth, height, width = field.shape
    for k, found in zip(THRESHOLDS, SHADOW.counts(field, THRESHOLDS), strict=True):
        columns = itertools.product(range(height), range(width))
        assert found == sum(any(field[z, y, x] > np.float32(k) for z in range(depth)) for y, x in columns)


@given(field=FIELDS)
def test_volume_counts_voxels_and_exceeds_shadow(field: Values) -> None:
    volume, shadow = sizes_of(field, field.shape, (40.0, 4.0, 3.0), THRESHOLDS)
    for at, k in enumerate(THRESHOLDS):
        assert volume.nm(at) == area(field, k, (40.0, 4.0, 3.0)) == (field > np.float32(k)).sum() * 480.0
        assert shadow.nm(at) == shadow.counts[at] * 12.0
        assert shadow.counts[at] <= volume.counts[at] <= field.shape[0] * shadow.counts[at]
        assert 0 <= volume.share(at) <= shadow.share(at) <= 1


def test_box_has_its_volume_and_base() -> None:
    field = np.zeros((9, 20, 30), np.float32)
    field[2:6, 3:10, 4:9] = 0.5
    volume, shadow = sizes_of(field, (10, 40, 30), (40.0, 4.0, 3.0), [0.1])
    assert (volume.nm(0), shadow.nm(0)) == (4 * 40 * 7 * 4 * 5 * 3, 7 * 4 * 5 * 3)
    assert (volume.share(0), shadow.share(0)) == (140 / 12000, 35 / 1200)


def test_nan_values_do_not_count() -> None:
    field = np.full((2, 1, 3), np.nan, np.float32)
    field[0, 0, :2] = (0.5, -0.5)
    assert VOLUME.counts(field, [0.1]).tolist() == SHADOW.counts(field, [0.1]).tolist() == [1]
    assert SHADOW.counts(np.zeros((0, 2, 2), np.float32), [0.1]).tolist() == [0]


def test_images_have_only_an_area() -> None:
    assert EXTENTS[2] == (AREA,)
    assert [AREA.column, AREA.column_at(0.05), AREA.place_column] == ["S_nm2", "S_0.05_nm2", "pixel_nm2"]
    assert [extents[-1].axes for extents in EXTENTS.values()] == [2, 2]


@pytest.mark.parametrize("axes", EXTENTS)
def test_no_two_extents_share_a_name(axes: int) -> None:
    names = [
        name for each in EXTENTS[axes] for name in (each.column, each.column_at(0.1), each.place_column, each.title)
    ]
    assert len(set(names)) == len(names)
