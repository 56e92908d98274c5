"""Parts of pictures of panels: marks, scale bars, frames with text, sheets."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lightning_emseg.report.overlay import Picture

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
