"""Pictures of predicted classes beside image and truth."""

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_modules.batch import IGNORE
from lightning_emseg.report.overlay import IGNORED, Picture, rgb, side_by_side

# Okabe and Ito's palette, told apart by colour-blind readers; it begins anew behind seven classes.
_NAMES = ("orange", "light blue", "green", "yellow", "blue", "red", "pink")
_COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
_WRONG = (213, 0, 0)
_STRENGTH = 0.6
_JOINED = "\N{NO-BREAK SPACE}"
_LINE = 14
"""Height in px of a line of the legend …"""
_CHARACTER = 7
"""… and width of its widest characters, about."""


def class_colours(image: Picture, classes: Picture) -> Picture:
    """Classes painted over the image; the background leaves it as it is.

    Args:
        image: Grey ``uint8 (Y, X)``.
        classes: ``uint8 (Y, X)``, positions of classes, 255 for ignored.

    Returns:
        RGB ``uint8 (Y, X, 3)``.
    """
    table = np.zeros((256, 3), np.float32)
    table[1:] = np.resize(np.asarray(_COLOURS, np.float32), (255, 3))
    table[IGNORE] = IGNORED
    grey = rgb(image).astype(np.float32)
    painted = grey + _STRENGTH * (classes > 0)[..., None] * (table[classes] - grey)
    return painted.round().astype(np.uint8)


def wrong_pixels(image: Picture, truth: Picture, predicted: Picture) -> Picture:
    """Pixels of a wrong class in red over the faded image, ignored ones in grey; RGB ``uint8 (Y, X, 3)``."""
    colours = rgb((image // 2 + 96).astype(np.uint8)).copy()
    wrong: NDArray[np.bool_] = (truth != predicted) & (truth != IGNORE)
    colours[wrong] = _WRONG
    colours[truth == IGNORE] = IGNORED
    return colours


def class_comparison(image: Picture, truth: Picture, predicted: Picture, names: Sequence[str]) -> Picture:
    """Four panels side by side: image, true classes, predicted classes, wrong pixels.

    Args:
        image: Grey ``uint8 (Y, X)``.
        truth: ``uint8 (Y, X)``, positions of classes, 255 for ignored.
        predicted: ``uint8 (Y, X)``, positions of classes.
        names: Of the classes, the background first.

    Returns:
        RGB ``uint8``, panels with a caption above each, below a legend in as many lines as it needs.
    """
    panels = side_by_side(
        {
            "image": rgb(image),
            "truth": class_colours(image, truth),
            "predicted": class_colours(image, predicted),
            "red: wrong": wrong_pixels(image, truth, predicted),
        }
    )
    return np.concatenate([_legend(names, panels.shape[1]), panels])


def _legend(names: Sequence[str], width: int) -> Picture:
    parts = [f"{_NAMES[number % len(_NAMES)]}: {name}" for number, name in enumerate(names[1:])]
    # Lines end between classes and not within.
    text = ", ".join(part.replace(" ", _JOINED) for part in parts)
    lines = [line.replace(_JOINED, " ") for line in textwrap.wrap(text, max(1, width // _CHARACTER))]
    strip = Image.new("RGB", (width, _LINE * len(lines)), "white")
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((2, number * _LINE + 1), line, fill=(0, 0, 0))
    return np.asarray(strip)
