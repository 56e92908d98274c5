"""Colours of an error map, over the faded image."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from data_modules.batch import IGNORE
from lightning_emseg.error_analysis.error_map import Codes, Outcome, pixels_of
from lightning_emseg.report.overlay import FALSE_NEGATIVE, FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, Picture

Colour = tuple[int, int, int]

COLOURS: Mapping[Outcome, Colour] = {
    Outcome.TRUE_POSITIVE: TRUE_POSITIVE,
    Outcome.TOLERATED_FALSE_POSITIVE: (250, 215, 130),
    Outcome.TOLERATED_FALSE_NEGATIVE: (214, 170, 225),
    Outcome.FALSE_POSITIVE: FALSE_POSITIVE,
    Outcome.FALSE_NEGATIVE: FALSE_NEGATIVE,
}
"""Orange false positives and pink false negatives as in Figure 6 of the U-RISC paper (Frontiers in Neuroscience 2022);
lighter where they are within the tolerance. Colour-blind readers can tell all of them apart, and from the image."""
GREYS = 32
"""Levels left to the image, which makes small files."""
DARKEST = 205
"""Grey level of the faded image's black: darker ones would be taken for a colour by the colour blind."""


def error_picture(codes: Codes, image: Picture) -> Image.Image:
    """Outcomes painted over the faded image, which shows through the background.

    Args:
        codes: Error map ``uint8 (Y, X)``.
        image: Grey ``uint8 (Y, X)``.

    Returns:
        A picture with a palette, of the same size.
    """
    table = np.zeros(256, np.uint8)
    palette = [(round(grey),) * 3 for grey in np.linspace(DARKEST, 255, GREYS)]
    for value, colour in (*COLOURS.items(), (IGNORE, IGNORED)):
        table[value] = len(palette)
        palette.append(colour)
    index = np.where(pixels_of(codes, Outcome.TRUE_NEGATIVE), image // (256 // GREYS), table[codes])
    picture = Image.fromarray(index.astype(np.uint8)).convert("P")
    picture.putpalette([channel for colour in palette for channel in colour])
    return picture
