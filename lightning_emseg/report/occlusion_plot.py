"""What an image's match rests on, over the image, as Figure 3c of Conrad and Narayan (2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_emseg.core.figures import PictureGrid, show_grey, show_heat
from lightning_emseg.features.occlusion import Occlusion

_OPACITY = 0.45


@dataclass(frozen=True)
class OcclusionRow:
    """One image of the figure.

    Attributes:
        name: Of the image.
        image: ``(Y, X)``, grey levels.
        reference: What it is compared with, or ``None`` where it is the image itself.
        found: By encoder, in one order for all rows.
    """

    name: str
    image: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None
    found: Mapping[str, Occlusion]


def occlusion_figure(rows: Sequence[OcclusionRow]) -> Figure:
    """A row an image: the image, the view it is compared with, and for each encoder the importance over the image.

    Above each heat map stands the similarity of the whole image and by how much hiding a square lowers it at most,
    without which a heat map of 0–1 cannot be judged.

    Args:
        rows: At least one; all with a reference, or none.
    """
    views = 1 + (rows[0].reference is not None)
    grid = PictureGrid([row.image.shape for row in rows], views + len(rows[0].found), title_lines=2)
    for cells, row in zip(grid.cells, rows, strict=True):
        show_grey(cells[0], row.image, row.name)
        if row.reference is not None:
            show_grey(cells[1], row.reference, "compared with")
        for axes, (name, found) in zip(cells[views:], row.found.items(), strict=True):
            title = f"{name}\nsimilarity {found.similarity:.3f}, drop ≤ {found.drops.max():.2g}"
            show_heat(axes, row.image, found.importance, _OPACITY, title)
    grid.add_bar("importance")
    return grid.figure
