"""The panel of one window: its attributed pixels with their fields."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lightning_emseg.attribution.area import THRESHOLDS, Values
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.sides import SECTION_AXES
from lightning_emseg.attribution.table import Row, field_inside
from lightning_emseg.attribution.windows import Window
from lightning_emseg.report.attribution_panel import PanelField, attribution_panel
from lightning_emseg.report.overlay import Picture
from lightning_emseg.report.volume_panel import volume_panel

Shown = tuple[Row, Field, Values]


def window_panel(
    window: Window,
    probability: Picture,
    shown: Sequence[tuple[Row, Field]],
    thresholds: Sequence[float],
    reach: int | Sequence[int] | None,
) -> Picture:
    """Draw a window, without what lies outside of its mosaic, as in Figure 8 of the U-RISC preprint (2021).

    Args:
        window: Of an image, or of a volume: there every pixel is shown in its own section.
        probability: ``uint8`` of the window's shape, 255 for certain foreground.
        shown: What was measured of pixels of this window, and their fields.
        thresholds: That the sizes of the rows are of.
        reach: Distance from the pixel at which fields were cut off, in px, one for all axes or one an axis; ``None``
            where they were not.
    """
    place = list(thresholds).index(THRESHOLDS[0])
    fields = [(row, field, _over(window, field)) for row, field in shown]
    captions = [_caption(row, place) for row, _ in shown]
    side = None if reach is None else 2 * (reach if isinstance(reach, int) else max(reach[-SECTION_AXES:])) + 1
    # Boxes nearly as large as the window would hide it and enlarge nothing.
    zoom = side if side is not None and 1.5 * side < min(window.shape_inside[-SECTION_AXES:]) else None
    return _PANELS[window.truth.ndim](window, probability, fields, captions, zoom)


def _over(window: Window, field: Field) -> Values:
    """The normalised field over all of the window that belongs to the mosaic."""
    values = np.zeros(window.shape_inside, np.float32)
    part = field_inside(field, window.inside)
    values[tuple(slice(start, start + side) for start, side in zip(field.origin, part.shape, strict=True))] = part
    return values


def _caption(row: Row, place: int) -> str:
    sizes = [
        f"S{size.extent.suffix}({THRESHOLDS[0]:g}) = {size.nm(place):,.0f} {size.extent.sign}" for size in row.sizes
    ]
    return ", ".join([*sizes, f"F(x) = {row.output:.2f}", f"F(x') = {row.baseline_output:.2f}"])


def _of_image(
    window: Window, probability: Picture, shown: Sequence[Shown], captions: Sequence[str], zoom_px: int | None
) -> Picture:
    image = window.image[0][window.inside].round().astype(np.uint8)
    fields = [
        PanelField(row.outcome, (field.pixel[0], field.pixel[1]), values, caption)
        for (row, field, values), caption in zip(shown, captions, strict=True)
    ]
    truth, probability = window.truth[window.inside], probability[window.inside]
    # The scale bar lies along X.
    return attribution_panel(image, probability, truth, fields, window.pixel_size_nm[-1], zoom_px)


_PANELS: Mapping[int, Callable[[Window, Picture, Sequence[Shown], Sequence[str], int | None], Picture]] = {
    2: _of_image,
    3: volume_panel,
}
