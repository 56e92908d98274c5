"""Where the maps of encoders light up beside where an organelle is, as Figure 3b of Conrad and Narayan (2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_emseg.core.figures import PictureGrid, show_grey, show_heat, show_mask
from lightning_emseg.features.selectivity import THRESHOLD, Selectivity

_OPACITY = 0.6


@dataclass(frozen=True)
class SelectivityRow:
    """One image of the figure.

    Attributes:
        name: Of the image.
        image: ``(Y, X)``, grey levels.
        mask: ``(Y, X)``, of the organelle.
        found: By encoder, in one order for all rows.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    found: Mapping[str, Selectivity]


def selectivity_figure(rows: Sequence[SelectivityRow], organelle: str) -> Figure:
    """A row an image: the image, its truth, and for each encoder the mean map over the image and its binary mask.

    Args:
        rows: At least one.
        organelle: What is looked for.
    """
    grid = PictureGrid([row.image.shape for row in rows], 2 + 2 * len(rows[0].found))
    for cells, row in zip(grid.cells, rows, strict=True):
        show_grey(cells[0], row.image, row.name)
        show_mask(cells[1], row.mask, f"{organelle}: {row.mask.mean():.1%}")
        for heat, binary, (name, found) in zip(cells[2::2], cells[3::2], row.found.items(), strict=True):
            show_heat(heat, row.image, found.response, _OPACITY, f"{name}: r = {found.response_correlation:.3f}")
            show_mask(binary, found.binary, f"{name}: IoU = {found.iou:.3f}")
    grid.add_bar("mean response\n(line: cut for the mask)", THRESHOLD)
    return grid.figure
