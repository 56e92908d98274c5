"""The panel of one window of a volume: every attributed pixel in its own section, and its field."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from data_modules.batch import IGNORE
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.table import Row
from lightning_emseg.attribution.windows import Window
from lightning_emseg.report.attribution_panel import (
    OUTCOME_COLOURS,
    PanelField,
    Values,
    colour_key,
    field_picture,
    overview,
    whole_view,
    zoomed,
)
from lightning_emseg.report.overlay import Picture
from lightning_emseg.report.panel_drawing import BLACK, font_of, framed, sheet, wrapped

_COLUMNS = 5


def projected(values: Values) -> Values:
    """The value of largest magnitude along Z, with its sign: ``(Z, Y, X)`` to ``(Y, X)``."""
    strongest = np.abs(values).argmax(axis=0)[None]
    found: Values = np.take_along_axis(values, strongest, axis=0)[0]
    return found


def volume_panel(
    window: Window,
    probability: Picture,
    shown: Sequence[tuple[Row, Field, Values]],
    captions: Sequence[str],
    zoom_px: int | None,
) -> Picture:
    """A row a pixel: its section of image, probability and truth, its field in that section, and all of the field.

    All of the field is its value of largest magnitude along Z: evidence for the foreground hides behind stronger
    evidence against it, while :data:`~lightning_emseg.attribution.extent.SHADOW` counts it.

    Args:
        window: Of a volume.
        probability: ``uint8 (Z, Y, X)``, 255 for certain foreground.
        shown: What was measured of pixels of this window, their fields, and the normalised values of these over the
            part of the window that belongs to the mosaic.
        captions: The figures of each pixel.
        zoom_px: As in :func:`~lightning_emseg.report.attribution_panel.attribution_panel`.

    Returns:
        RGB ``uint8``.
    """
    image = window.image[0][window.inside].round().astype(np.uint8)
    truth, probability = window.truth[window.inside], probability[window.inside]
    marked = np.where(truth == IGNORE, 90, 255 * (truth == 1)).astype(np.uint8)
    whole = whole_view(image.shape[1:])
    font = font_of(max(13, round(whole.width * whole.scale / 26)))
    nm_per_px = window.pixel_size_nm[-1]
    cells: list[Image.Image] = []
    panels: list[PanelField] = []
    for number, ((row, field, values), caption) in enumerate(zip(shown, captions, strict=True), 1):
        z, y, x = field.pixel
        view, colour = zoomed(whole, (y, x), zoom_px), OUTCOME_COLOURS[row.outcome]
        section = PanelField(row.outcome, (y, x), values[z], caption)
        for title, volume in ((f"{number}  image, z {z}", image), ("probability", probability), ("truth", marked)):
            picture = overview(volume[z], whole, [section], [view], nm_per_px, font, first=number)
            cells.append(framed(picture, [title], BLACK, 1, font))
        for panel, title in (
            (section, f"{number}  {row.outcome}  at z {z}, y {y}, x {x}"),
            (replace(section, values=projected(values), caption=""), f"{number}  largest magnitude along Z"),
        ):
            picture = field_picture(panel, view, nm_per_px, font)
            lines = [title, *wrapped(panel.caption, picture.width, font)]
            cells.append(framed(picture, lines, colour, max(3, round(font.size / 4)), font))
        panels.append(section)
    key = colour_key(cells[0].size, panels, font, zoomed=zoom_px is not None)
    return sheet([*cells, key], _COLUMNS, gap=round(font.size))
