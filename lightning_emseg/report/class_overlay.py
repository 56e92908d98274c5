"""Pictures of predicted classes beside image and truth."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
        RGB ``uint8``, panels with a caption above each.
    """
    legend = "  ".join(f"{_NAMES[number % len(_NAMES)]}: {name}" for number, name in enumerate(names[1:]))
    return side_by_side(
        {
            "image": rgb(image),
            f"truth  {legend}": class_colours(image, truth),
            "predicted classes": class_colours(image, predicted),
            "red: wrong class": wrong_pixels(image, truth, predicted),
        }
    )
