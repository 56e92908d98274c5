"""Pictures of a prediction beside its image and truth."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_modules.batch import IGNORE

Picture = NDArray[np.uint8]

Colour = tuple[int, int, int]
PALETTE: Mapping[str, Colour] = {
    "orange": (230, 159, 0),
    "light blue": (86, 180, 233),
    "green": (0, 158, 115),
    "yellow": (240, 228, 66),
    "blue": (0, 114, 178),
    "red": (213, 94, 0),
    "pink": (204, 121, 167),
    "black": (0, 0, 0),
}
"""Okabe and Ito's colours, told apart by colour-blind readers."""
# Outcomes as in the attribution figures of U-RISC.
TRUE_POSITIVE = PALETTE["green"]
FALSE_POSITIVE = PALETTE["orange"]
FALSE_NEGATIVE = PALETTE["pink"]
IGNORED = (90, 90, 90)
_HEADER = 18
_GAP = 6


def paint_errors(image: Picture, truth: Picture, predicted: NDArray[np.bool_]) -> Picture:
    """Paint outcomes over the faded image: green correct, orange false positive, pink false negative.

    Args:
        image: Grey ``uint8 (Y, X)``.
        truth: ``uint8 (Y, X)``: 0, 1, or 255 for ignored.
        predicted: ``bool (Y, X)``.

    Returns:
        RGB ``uint8 (Y, X, 3)``.
    """
    colours = np.repeat((image // 2 + 96)[..., None], 3, axis=2).astype(np.uint8)
    colours[(truth == 1) & predicted] = TRUE_POSITIVE
    colours[(truth == 0) & predicted] = FALSE_POSITIVE
    colours[(truth == 1) & ~predicted] = FALSE_NEGATIVE
    colours[truth == IGNORE] = IGNORED
    return colours


def draw_comparison(image: Picture, truth: Picture | None, probability: Picture, level: int) -> Picture:
    """Draw four panels: image, truth, prediction, errors; without truth only image and prediction.

    Args:
        image: Grey ``uint8 (Y, X)``.
        truth: ``uint8 (Y, X)`` with 0, 1, 255, or ``None``.
        probability: ``uint8 (Y, X)``; 255 is certain foreground.
        level: Quantised threshold, 0–255.

    Returns:
        RGB ``uint8``, panels with a caption above each.
    """
    predicted = probability >= level
    panels = {"image": rgb(image)}
    if truth is not None:
        panels["truth"] = rgb(np.where(truth == IGNORE, 90, 255 * (truth == 1)).astype(np.uint8))
    panels[f"probability (threshold {level / 255:.2f})"] = rgb(probability)
    if truth is not None:
        panels["green: correct  orange: false positive  pink: missed"] = paint_errors(image, truth, predicted)
    return draw_side_by_side(panels)


def draw_side_by_side(panels: Mapping[str, Picture]) -> Picture:
    """Draw RGB panels ``uint8 (Y, X, 3)`` of one size in a row, each below its caption."""
    height, width = next(iter(panels.values())).shape[:2]
    sheet = np.full((height + _HEADER, len(panels) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for index, panel in enumerate(panels.values()):
        sheet[_HEADER:, index * (width + _GAP) : index * (width + _GAP) + width] = panel
    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    for index, caption in enumerate(panels):
        draw.text((index * (width + _GAP) + 2, 3), caption, fill=(0, 0, 0))
    return np.asarray(picture)


def stack(pictures: list[Picture]) -> Picture:
    """Put pictures of one width below each other."""
    gap = np.full((_GAP, pictures[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1])


def save(picture: Picture, path: Path) -> None:
    """Write a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def rgb(grey: Picture) -> Picture:
    """Return grey ``(Y, X)`` as ``(Y, X, 3)``."""
    return np.repeat(grey[..., None], 3, axis=2)


# Names in the legend of classes, which begins anew behind seven of them.
_NAMES = tuple(name for name in PALETTE if name != "black")
_WRONG = (213, 0, 0)
_STRENGTH = 0.6
_JOINED = "\N{NO-BREAK SPACE}"
_LINE = 14
"""Height in px of a line of the legend …"""
_CHARACTER = 7
"""… and width of its widest characters, about."""


def paint_classes(image: Picture, classes: Picture) -> Picture:
    """Paint classes over the image; the background leaves it as it is.

    Args:
        image: Grey ``uint8 (Y, X)``.
        classes: ``uint8 (Y, X)``, positions of classes, 255 for ignored.

    Returns:
        RGB ``uint8 (Y, X, 3)``.
    """
    table = np.zeros((256, 3), np.float32)
    table[1:] = np.resize(np.asarray([PALETTE[name] for name in _NAMES], np.float32), (255, 3))
    table[IGNORE] = IGNORED
    grey = rgb(image).astype(np.float32)
    painted = grey + _STRENGTH * (classes > 0)[..., None] * (table[classes] - grey)
    return painted.round().astype(np.uint8)


def paint_wrong_pixels(image: Picture, truth: Picture, predicted: Picture) -> Picture:
    """Paint pixels of a wrong class red over the faded image, ignored ones grey; RGB ``uint8 (Y, X, 3)``."""
    colours = rgb((image // 2 + 96).astype(np.uint8)).copy()
    wrong: NDArray[np.bool_] = (truth != predicted) & (truth != IGNORE)
    colours[wrong] = _WRONG
    colours[truth == IGNORE] = IGNORED
    return colours


def draw_class_comparison(image: Picture, truth: Picture, predicted: Picture, names: Sequence[str]) -> Picture:
    """Draw four panels: image, true classes, predicted classes, wrong pixels.

    Args:
        image: Grey ``uint8 (Y, X)``.
        truth: ``uint8 (Y, X)``, positions of classes, 255 for ignored.
        predicted: ``uint8 (Y, X)``, positions of classes.
        names: Names of the classes, the background first.

    Returns:
        RGB ``uint8``, panels with a caption above each, below a legend in as many lines as it needs.
    """
    panels = draw_side_by_side(
        {
            "image": rgb(image),
            "truth": paint_classes(image, truth),
            "predicted": paint_classes(image, predicted),
            "red: wrong": paint_wrong_pixels(image, truth, predicted),
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
