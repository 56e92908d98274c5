"""Panels of windows."""

import numpy as np
import pytest

from lightning_emseg.attribution.area import THRESHOLDS
from lightning_emseg.attribution.extent import sizes_of
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.table import Row
from lightning_emseg.attribution.windows import Window
from lightning_emseg.report.attribution_panel import OUTCOME_COLOURS
from lightning_emseg.report.window_panel import window_panel


@pytest.mark.parametrize("reach", [7, (7, 7)])
def test_boxes_enclose_all_within_reach(reach: int | tuple[int, int]) -> None:
    shape, pixel = (64, 64), (30, 20)
    inside = (slice(0, 64), slice(0, 64))
    image, truth = np.zeros((1, *shape), np.float32), np.zeros(shape, np.uint8)
    window = Window("test/m", image, truth, inside, (4.0, 4.0), (1.0, 1.0))
    values = np.ones(shape, np.float32)
    row = Row("test/m", pixel, (0, 0), "FN", 1.0, 0.0, 0.0, sizes_of(values, shape, (4.0, 4.0), THRESHOLDS))
    shown = [(row, Field(pixel, (0, 0), values, 1.0, 0.0))]
    picture = window_panel(window, np.zeros(shape, np.uint8), shown, THRESHOLDS, reach)
    # The first panel is the image inside a black frame, shown six times as large.
    panel = picture[:440, : picture.shape[1] // 4]
    lines = (panel == OUTCOME_COLOURS["FN"]).all(axis=-1)
    rows, columns = (np.flatnonzero(lines.sum(axis=axis) > 60) for axis in (1, 0))
    # Seven pixels on either side of the attributed one.
    assert rows[-1] - rows[0] == pytest.approx(6 * 15, abs=1)
    assert columns[-1] - columns[0] == pytest.approx(6 * 15, abs=1)
