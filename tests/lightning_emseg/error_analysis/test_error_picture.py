"""Colours of error maps."""

import itertools
import math

import numpy as np
import pytest
from skimage.color import rgb2lab

from lightning_emseg.error_analysis.error_map import Outcome
from lightning_emseg.error_analysis.error_picture import COLOURS, DARKEST, error_picture
from lightning_emseg.report.overlay import IGNORED

# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1, for linear RGB.
SEEN_BY: dict[str, list[list[float]]] = {
    "most": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def seen(colour: tuple[int, ...], matrix: list[list[float]]) -> list[float]:
    """CIELAB of a colour as it appears to somebody."""
    value = np.array(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    changed = np.clip(np.array(matrix) @ linear, 0, 1)
    encoded = np.where(changed <= 0.0031308, changed * 12.92, 1.055 * changed ** (1 / 2.4) - 0.055)
    lab: list[float] = rgb2lab(encoded).tolist()
    return lab


@pytest.mark.parametrize("reader", SEEN_BY)
def test_outcome_colours_are_distinguishable(reader: str) -> None:
    greys = [(grey,) * 3 for grey in (DARKEST, 230, 255)]
    pairs = [*itertools.combinations([*COLOURS.values(), IGNORED], 2), *itertools.product(COLOURS.values(), greys)]
    differences = [math.dist(seen(a, SEEN_BY[reader]), seen(b, SEEN_BY[reader])) for a, b in pairs]
    # A difference of about 2 is just noticeable.
    assert min(differences) > 15


def test_pictures_show_outcomes_over_faded_image() -> None:
    codes = np.array([[0, 0, 1, 2, 3, 4, 5, 255]], np.uint8)
    image = np.array([[0, 255, 0, 10, 90, 200, 255, 255]], np.uint8)
    picture = error_picture(codes, image)
    assert picture.mode == "P"
    rows = np.asarray(picture.convert("RGB"))[0].tolist()
    assert rows[:2] == [[DARKEST] * 3, [255] * 3]
    assert rows[2] == [0, 158, 115]  # green, correct
    assert rows[5:] == [[230, 159, 0], [204, 121, 167], list(IGNORED)]  # orange false, pink missed
    assert [tuple(row) for row in rows[3:5]] == [
        COLOURS[Outcome.TOLERATED_FALSE_POSITIVE],
        COLOURS[Outcome.TOLERATED_FALSE_NEGATIVE],
    ]


def test_grey_levels_keep_their_order() -> None:
    image = np.arange(256, dtype=np.uint8)[None]
    shown = np.asarray(error_picture(np.zeros_like(image), image).convert("L")).astype(int)
    assert (np.diff(shown) >= 0).all()
    assert len(np.unique(shown)) == 32
