"""Pictures of attribution fields below the image, prediction and truth that they belong to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_modules.batch import IGNORE
from lightning_emseg.core.pictures import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, Picture

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def font_of(size: int) -> Font:
    """A sans-serif font of ``size`` px that has ², − and µ; Pillow's own has none of them."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def cross(draw: ImageDraw.ImageDraw, place: tuple[float, float], colour: Colour, gap: float, arm: float) -> None:
    """Four arms of ``arm`` px with a white rim, ``gap`` px from ``place`` (x, y), so that nothing there is hidden."""
    x, y = place
    width = max(3, round(arm / 3))
    for thick, fill in ((width + 2, WHITE), (width, colour)):
        for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            far = gap + arm
            draw.line((x + a * gap, y + b * gap, x + a * far, y + b * far), fill, thick)


def box(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], colour: Colour, width: int) -> None:
    """Outline with a thin white rim, from (left, top) to (right, bottom)."""
    left, top, right, bottom = corners
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=WHITE, width=width + 2)
    draw.rectangle(corners, outline=colour, width=width)


def nice_length(limit: float) -> float:
    """The largest of 1, 2 and 5 × 10ⁿ that is at most ``limit``, which is above 0.

    >>> nice_length(49.0)
    20.0
    """
    power = 10.0 ** math.floor(math.log10(limit))
    return max((factor * power for factor in (1, 2, 5) if factor * power <= limit), default=power)


def scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], nm: float, font: Font) -> None:
    """A bar of at most 30 % of the width with its length, at the lower left of a picture.

    Args:
        draw: Of the picture.
        size: Width and height of the picture, in px.
        nm: What one px of the picture measures, in nm.
        font: Of the length.
    """
    length = nice_length(0.3 * size[0] * nm)
    text = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    left, bottom, thick = font.size * 0.6, size[1] - font.size * 0.6, max(3, font.size / 5)
    right = left + length / nm - 1
    draw.rectangle((left - 2, bottom - thick - 2, right + 2, bottom + 2), fill=WHITE)
    draw.rectangle((left, bottom - thick, right, bottom), fill=BLACK)
    draw.text((left, bottom - 1.8 * thick), text, BLACK, font, "ls", stroke_width=2, stroke_fill=WHITE)


def wrapped(text: str, width: int, font: Font) -> list[str]:
    """Lines of at most ``width`` px; a longer word stays whole."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines


def framed(picture: Image.Image, lines: Sequence[str], colour: Colour, frame: int, font: Font) -> Image.Image:
    """The picture in a frame of ``frame`` px, with lines of text above it, none of them cut."""
    line = round(1.35 * font.size)
    header = line * len(lines) + round(0.2 * font.size)
    outer = picture.width + 2 * frame
    width = max(outer, *(math.ceil(font.getlength(text)) for text in lines))
    cell = Image.new("RGB", (width, picture.height + header + 2 * frame), WHITE)
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, header, outer - 1, cell.height - 1), fill=colour)
    cell.paste(picture, (frame, header + frame))
    for row, text in enumerate(lines):
        draw.text((0, line * row), text, BLACK, font)
    return cell


def sheet(cells: Sequence[Image.Image], columns: int, gap: int) -> Picture:
    """Cells in rows on white, ``gap`` px between them, the lower edges of a row at one height.

    Returns:
        RGB ``uint8``.
    """
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = max(cell.width for cell in cells)
    whole = Image.new("RGB", (columns * (width + gap) + gap, sum(heights) + gap * (len(rows) + 1)), WHITE)
    bottom = 0
    for row, height in zip(rows, heights, strict=True):
        bottom += gap + height
        for column, cell in enumerate(row):
            whole.paste(cell, (gap + column * (width + gap), bottom - cell.height))
    return np.asarray(whole)


FieldValues = NDArray[np.float32]

TRUE_NEGATIVE = (50, 80, 120)
OUTCOME_COLOURS = {"TP": TRUE_POSITIVE, "FP": FALSE_POSITIVE, "FN": FALSE_NEGATIVE, "TN": TRUE_NEGATIVE}
GAMMA = 0.5
"""Colours follow sign(w)·|w|^γ: most evidence lies far below 0.1 and would be white on a linear scale."""
_MEANING = {"TP": "correct", "FP": "false positive", "FN": "missed", "TN": "background"}
# ColorBrewer's RdBu, readable for the colour blind, with a pure white middle and from −1 to 1.
_RAMP = np.array(
    [
        *((103, 0, 31), (178, 24, 43), (214, 96, 77), (244, 165, 130), (253, 219, 199), (255, 255, 255)),
        *((209, 229, 240), (146, 197, 222), (67, 147, 195), (33, 102, 172), (5, 48, 97)),
    ]
)
_TICKS = (1.0, 0.5, 0.2, 0.05, 0.0, -0.05, -0.2, -0.5, -1.0)
_COLUMNS = 4
_SMALLEST, _LARGEST = 384, 768
"""Shown sides in px between which windows are enlarged or reduced."""


@dataclass(frozen=True)
class PanelField:
    """Attribution of one pixel's answer to the pixels of its window.

    Attributes:
        outcome: ``TP``, ``FP``, ``FN`` or ``TN``.
        pixel: The pixel whose answer is explained, ``(y, x)`` in px of the window.
        values: ``float32 (Y, X)`` of the window's shape, −1…1; positive is evidence for foreground.
        caption: Its figures, e.g. ``S(0.01) = 46,000 nm², F(x) = 3.2``.
    """

    outcome: str
    pixel: tuple[int, int]
    values: FieldValues
    caption: str


@dataclass(frozen=True)
class PanelView:
    """Box of a window that a panel shows, in px of the window; ``scale`` is shown px for one of them."""

    top: int
    left: int
    height: int
    width: int
    scale: float

    def at(self, y: float, x: float) -> tuple[float, float]:
        """Shown (x, y)."""
        return (x - self.left) * self.scale, (y - self.top) * self.scale


def field_colours(values: FieldValues) -> Picture:
    """Blue for evidence for foreground, red against it, white for none, along sign(w)·|w|^γ with γ = 0.5.

    Args:
        values: ``float32 (Y, X)``, −1…1.

    Returns:
        RGB ``uint8 (Y, X, 3)``.

    Raises:
        ValueError: if a value is not a number or outside −1…1.
    """
    if not (np.abs(values) <= 1 + 1e-6).all():
        raise ValueError("an attribution field has to be normalised to −1…1, without NaN")
    place = np.sign(values) * np.abs(values) ** GAMMA
    stops = np.linspace(-1, 1, len(_RAMP))
    return np.stack([np.interp(place, stops, channel).round() for channel in _RAMP.T], axis=-1).astype(np.uint8)


def attribution_panel(
    image: Picture,
    probability: Picture,
    truth: Picture,
    fields: Sequence[PanelField],
    pixel_size_nm: float,
    zoom_px: int | None = None,
) -> Picture:
    """Image, probability and truth with the attributed pixels marked, below them the fields, four in a row.

    After Figure 8 of the U-RISC preprint (2021). Pixels are numbered as their fields are. Windows above 768 px are
    shown reduced, a field with its strongest value in each shown pixel, so that sparse evidence stays.

    Args:
        image: Grey ``uint8 (Y, X)``.
        probability: ``uint8 (Y, X)``; 255 is certain foreground.
        truth: ``uint8 (Y, X)`` with 0, 1, 255.
        fields: Of pixels of this window.
        pixel_size_nm: Of the window as it is given, along both axes, in nm.
        zoom_px: Side of the box around its pixel to which a field is cut, in px of the window, at least 1; the box
            stays inside the window and is drawn into the first row. Without it fields are shown whole.

    Returns:
        RGB ``uint8``.

    Raises:
        ValueError: if shapes differ, an outcome is unknown, a pixel lies outside, or a field is not within −1…1.
    """
    _check(image, probability, truth, fields)
    whole = whole_view(image.shape)
    views = [zoomed(whole, field.pixel, zoom_px) for field in fields]
    font = font_of(max(13, round(max(image.shape) * whole.scale / 26)))
    marked = np.where(truth == IGNORE, 90, 255 * (truth == 1)).astype(np.uint8)
    cells = [
        framed(overview(grey, whole, fields, views, pixel_size_nm, font), [title], BLACK, 1, font)
        for title, grey in (("image", image), ("probability", probability), ("truth", marked))
    ]
    cells.append(colour_key(cells[0].size, fields, font, zoomed=zoom_px is not None))
    for number, (field, view) in enumerate(zip(fields, views, strict=True), 1):
        picture = field_picture(field, view, pixel_size_nm, font)
        title = f"{number}  {field.outcome}  at y {field.pixel[0]}, x {field.pixel[1]}"
        lines = [title, *wrapped(field.caption, picture.width, font)]
        cells.append(framed(picture, lines, OUTCOME_COLOURS[field.outcome], max(3, round(font.size / 4)), font))
    return sheet(cells, _COLUMNS, gap=round(font.size))


def _check(image: Picture, probability: Picture, truth: Picture, fields: Sequence[PanelField]) -> None:
    shapes = {image.shape, probability.shape, truth.shape, *(field.values.shape for field in fields)}
    if len(shapes) > 1 or image.ndim != 2:
        raise ValueError(f"image, probability, truth and fields need one shape (Y, X), got {sorted(shapes)}")
    for field in fields:
        if field.outcome not in OUTCOME_COLOURS:
            raise ValueError(f"outcome {field.outcome!r} is none of {', '.join(OUTCOME_COLOURS)}")
        if not all(0 <= at < side for at, side in zip(field.pixel, image.shape, strict=True)):
            raise ValueError(f"pixel {field.pixel} lies outside a window of {image.shape} px")


def whole_view(shape: Sequence[int]) -> PanelView:
    """All of a window of ``(Y, X)`` px, enlarged or reduced by a whole number."""
    (height, width), side = shape, max(shape)
    return PanelView(
        0, 0, height, width, float(-(-_SMALLEST // side)) if side <= _LARGEST else 1 / -(-side // _LARGEST)
    )


def zoomed(whole: PanelView, pixel: tuple[int, int], zoom_px: int | None) -> PanelView:
    """A box of ``zoom_px`` around a pixel, inside the window and shown as large as it; without it, the window."""
    if zoom_px is None:
        return whole
    height, width = min(zoom_px, whole.height), min(zoom_px, whole.width)
    top = min(max(pixel[0] - height // 2, 0), whole.height - height)
    left = min(max(pixel[1] - width // 2, 0), whole.width - width)
    return PanelView(top, left, height, width, whole.scale * min(whole.height / height, whole.width / width))


def overview(
    grey: Picture,
    whole: PanelView,
    fields: Sequence[PanelField],
    views: Sequence[PanelView],
    pixel_size_nm: float,
    font: Font,
    first: int = 1,
) -> Image.Image:
    """The window with boxes, crosses and numbers from ``first`` on, the crosses above all boxes."""
    step = max(1, round(1 / whole.scale))
    picture = _enlarged(Image.fromarray(grey).reduce(step).convert("RGB"), whole)
    draw = ImageDraw.Draw(picture)
    for view, field in zip(views, fields, strict=True):
        if view != whole:
            corners = (*whole.at(view.top, view.left), *whole.at(view.top + view.height, view.left + view.width))
            box(draw, corners, OUTCOME_COLOURS[field.outcome], max(2, round(font.size / 8)))
    for number, field in enumerate(fields, first):
        x, y = whole.at(field.pixel[0] + 0.5, field.pixel[1] + 0.5)
        cross(draw, (x, y), OUTCOME_COLOURS[field.outcome], font.size / 5, font.size / 2)
        shift, anchor = (0.4, "ls") if x < picture.width - 2.5 * font.size else (-0.4, "rs")
        place = (x + shift * font.size, max(y - 0.3 * font.size, 1.2 * font.size))
        draw.text(place, str(number), WHITE, font, anchor, stroke_width=3, stroke_fill=OUTCOME_COLOURS[field.outcome])
    scale_bar(draw, picture.size, pixel_size_nm / whole.scale, font)
    return picture


def field_picture(field: PanelField, view: PanelView, pixel_size_nm: float, font: Font) -> Image.Image:
    """The part of a field that a view shows, with a cross around its pixel."""
    values = field.values[view.top : view.top + view.height, view.left : view.left + view.width]
    values = _strongest(values, max(1, math.ceil(1 / view.scale - 1e-9)))
    picture = _enlarged(Image.fromarray(field_colours(values)), view)
    draw = ImageDraw.Draw(picture)
    # The evidence at the pixel itself, often the strongest, has to stay visible between the arms.
    place, gap = view.at(field.pixel[0] + 0.5, field.pixel[1] + 0.5), max(font.size / 2, 2.5 * view.scale)
    cross(draw, place, BLACK, gap, font.size / 2)
    scale_bar(draw, picture.size, pixel_size_nm / view.scale, font)
    return picture


def _enlarged(picture: Image.Image, view: PanelView) -> Image.Image:
    size = (round(view.width * view.scale), round(view.height * view.scale))
    return picture.resize(size, Image.Resampling.NEAREST)


def _strongest(values: FieldValues, step: int) -> FieldValues:
    """The value of largest magnitude in every block of ``step`` × ``step`` px."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % step), (0, -width % step)))
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step).swapaxes(1, 2)
    flat = blocks.reshape(*blocks.shape[:2], -1)
    return np.take_along_axis(flat, np.abs(flat).argmax(axis=-1)[..., None], axis=-1)[..., 0]


def colour_key(size: tuple[int, int], fields: Sequence[PanelField], font: Font, zoomed: bool) -> Image.Image:
    """Colour bar and meaning of the colours, as large as the panel beside it if its text has room there."""
    cell = Image.new("RGB", (max(size[0], round(18 * font.size)), max(size[1], round(15 * font.size))), WHITE)
    draw = ImageDraw.Draw(cell)
    top, width = round(1.6 * font.size), round(1.2 * font.size)
    height = cell.height - top
    bar = np.linspace(1, -1, height, dtype=np.float32)[:, None]
    # Along the bar it is the place that is even, so the values are the places' inverse.
    colours = field_colours(np.repeat(np.sign(bar) * np.abs(bar) ** (1 / GAMMA), width, axis=1))
    cell.paste(Image.fromarray(colours), (0, top))
    draw.rectangle((0, top, width - 1, top + height - 1), outline=BLACK)
    for tick in _TICKS:
        y = top + (height - 1) * (1 - math.copysign(abs(tick) ** GAMMA, tick)) / 2
        draw.line((width, y, width + font.size / 3, y), BLACK, 2)
        y = min(max(y, top + 0.5 * font.size), cell.height - 0.5 * font.size)
        draw.text((width + font.size / 2, y), f"{tick:g}".replace("-", "−"), BLACK, font, "lm")
    x = width + 4.5 * font.size
    draw.text((x, top), "evidence for", BLACK, font)
    draw.text((x, cell.height - 1), "evidence against", BLACK, font, "lb")
    notes = [f"colour: sign(w)·|w|^{GAMMA:g}", *(["boxes: parts that the fields show"] if zoomed else [])]
    draw.text((x, top + 0.55 * height), "\n".join(notes), BLACK, font, spacing=0.4 * font.size)
    for row, name in enumerate(name for name in OUTCOME_COLOURS if name in {field.outcome for field in fields}):
        y = top + 0.14 * height + 1.5 * font.size * row
        draw.rectangle((x, y, x + font.size, y + font.size), fill=OUTCOME_COLOURS[name])
        draw.text((x + 1.5 * font.size, y + font.size / 2), f"{name}  {_MEANING[name]}", BLACK, font, "lm")
    return cell
