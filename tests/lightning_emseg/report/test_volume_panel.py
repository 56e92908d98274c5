"""Panels of volumes: what is projected, and a row a pixel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_emseg.attribution.area import THRESHOLDS, Values
from lightning_emseg.attribution.extent import sizes_of
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.table import Row
from lightning_emseg.attribution.windows import Window
from lightning_emseg.report.overlay import Picture
from lightning_emseg.report.volume_panel import projected
from lightning_emseg.report.window_panel import window_panel

SHAPE = (5, 40, 48)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-1, 1, width=32))
)
def test_projection_keeps_the_largest_magnitude_and_its_sign(values: Values) -> None:
    found = projected(values)
    np.testing.assert_array_equal(np.abs(found), np.abs(values).max(axis=0))
    assert (values == found).any(axis=0).all()


def panel(grey: int, pixels: list[tuple[int, int, int]]) -> Picture:
    image = np.zeros((1, *SHAPE), np.float32)
    image[0, 3] = grey
    inside = tuple(slice(0, side) for side in SHAPE)
    window = Window("test/v", image, np.zeros(SHAPE, np.uint8), inside, (40.0, 4.0, 4.0), (1.0, 1.0, 1.0))
    values = np.zeros(SHAPE, np.float32)
    values[1, 10, 10] = 2.0
    sizes = sizes_of(values, SHAPE, (40.0, 4.0, 4.0), THRESHOLDS)
    shown = [
        (Row("test/v", pixel, (0, 0, 0), "TP", 1.0, 0.0, 0.0, sizes), Field(pixel, (0, 0, 0), values, 1.0, 0.0))
        for pixel in pixels
    ]
    return window_panel(window, np.zeros(SHAPE, np.uint8), shown, THRESHOLDS, (1, 30, 30))


def test_pixels_are_shown_in_their_own_section() -> None:
    def area_of(picture: Picture) -> int:
        return int((picture == (200, 200, 200)).all(axis=-1).sum())

    assert area_of(panel(200, [(0, 20, 20)])) < 100
    # 40 × 48 px, enlarged eight times, but for the cross, the number and the scale bar.
    assert area_of(panel(200, [(3, 20, 20)])) > 0.9 * 64 * 40 * 48
    assert area_of(panel(200, [(3, 20, 20), (3, 30, 30)])) > 1.8 * 64 * 40 * 48
    assert len(panel(200, [(3, 20, 20), (3, 30, 30)])) > len(panel(200, [(3, 20, 20)])) + 320


def test_other_sections_appear_only_in_the_projection() -> None:
    strongest = (5, 48, 97)  # the dark blue end of the ramp

    def blocks(picture: Picture) -> int:
        # The colour key has a line of it, and blocks of 8 × 8 px are of the field.
        return int((picture[: len(picture) // 2] == strongest).all(axis=-1).sum()) // 64

    assert blocks(panel(0, [(3, 20, 20)])) == 1
    assert blocks(panel(0, [(1, 30, 30)])) == 2
