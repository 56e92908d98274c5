"""Pictures of image, truth, probability and errors, all of one size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.batch import IGNORE
from lightning_emseg.error_analysis.error_map import Codes, reduced
from lightning_emseg.error_analysis.error_picture import error_picture
from lightning_emseg.report.overlay import IGNORED, Picture

_QUALITY = 85
"""Of JPEG: smaller ones show blocks in electron micrographs."""


@dataclass(frozen=True)
class Planes:
    """What is shown of a mosaic.

    Attributes:
        image: Grey ``uint8``.
        truth: ``uint8``: 0, 1, or 255, which is shown grey.
        probability: ``uint8``.
        codes: Error map ``uint8``.
    """

    image: Picture
    truth: Picture
    probability: Picture
    codes: Codes

    def at(self, index: int | tuple[slice, ...]) -> "Planes":
        """A section or a window of all four."""
        return Planes(self.image[index], self.truth[index], self.probability[index], self.codes[index])


def step_for(shape: Sequence[int], longest: int) -> int:
    """Mosaic px along one side of a shown px, so that no side is above ``longest`` px.

    >>> step_for((9958, 9959), 1536)
    7
    """
    return -(-max(shape) // longest)


def four_views(planes: Planes, step: int) -> dict[str, Image.Image]:
    """``image``, ``truth``, ``probability`` and ``errors`` reduced by a whole number.

    The first three are means over blocks of ``step`` × ``step`` px, errors as
    :func:`lightning_emseg.error_analysis.error_map.reduced` has them.

    Args:
        planes: What is shown, with two axes.
        step: Side of a block in px, at least 1.

    Returns:
        Pictures of ``⌈Y / step⌉ × ⌈X / step⌉`` px, by name.
    """
    shown = np.zeros(256, np.uint8)
    shown[1], shown[IGNORE] = 255, IGNORED[0]
    greys = {"image": planes.image, "truth": shown[planes.truth], "probability": planes.probability}
    views = {name: Image.fromarray(grey).reduce(step) for name, grey in greys.items()}
    errors = error_picture(reduced(planes.codes, step), np.asarray(views["image"]))
    return {**views, "errors": errors}


def save_views(views: Mapping[str, Image.Image], folder: Path, names: Mapping[str, str]) -> None:
    """Write pictures into a folder that exists, under the file names given; JPEG or PNG by their ending."""
    for name, view in views.items():
        view.save(folder / names[name], quality=_QUALITY, optimize=True)
