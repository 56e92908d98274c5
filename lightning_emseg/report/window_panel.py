"""The panel of one window: its attributed pixels with their fields."""

from collections.abc import Sequence

import numpy as np

from lightning_emseg.attribution.area import THRESHOLDS
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.table import Row, field_inside
from lightning_emseg.attribution.windows import Window
from lightning_emseg.report.attribution_panel import PanelField, attribution_panel
from lightning_emseg.report.overlay import Picture


def window_panel(
    window: Window,
    probability: Picture,
    shown: Sequence[tuple[Row, Field]],
    thresholds: Sequence[float],
    reach: int | None,
) -> Picture:
    """Draw a window, without what lies outside of its mosaic, as in Figure 8 of the U-RISC preprint (2021).

    Args:
        window: Of an image, not of a volume.
        probability: ``uint8 (Y, X)``, 255 for certain foreground.
        shown: What was measured of pixels of this window, and their fields.
        thresholds: That ``areas_px`` of the rows are of.
        reach: Distance from the pixel at which fields were cut off, in px; ``None`` where they were not.
    """
    image = window.image[0][window.inside].round().astype(np.uint8)
    smallest = THRESHOLDS[0]
    place = list(thresholds).index(smallest)
    fields = []
    for row, field in shown:
        area = row.areas_px[place] * row.pixel_nm2
        output = f"F(x) = {row.output:.2f}, F(x') = {row.baseline_output:.2f}"
        y, x = field.pixel
        values = np.zeros(image.shape, np.float32)
        part = field_inside(field, window.inside)
        top, left = field.origin
        values[top : top + part.shape[0], left : left + part.shape[1]] = part
        fields.append(PanelField(row.outcome, (y, x), values, f"S({smallest:g}) = {area:,.0f} nm², {output}"))
    side = None if reach is None else 2 * reach + 1
    # Boxes nearly as large as the window would hide it and enlarge nothing.
    zoom = side if side is not None and 1.5 * side < min(image.shape) else None
    truth, probability = window.truth[window.inside], probability[window.inside]
    # The scale bar lies along X.
    return attribution_panel(image, probability, truth, fields, window.pixel_size_nm[-1], zoom)
