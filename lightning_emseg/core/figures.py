"""Style of plots, and rows of pictures with heat maps over them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_emseg.core.pictures import PALETTE, Colour

LINE_STYLES = ("-", "--", "-.")

_HEAT = "viridis"
_CELL_INCHES, _TITLE_INCHES = 2.3, 0.25
_BAR_INCHES = 0.9
_TALLEST = 1.25
"""Height over width from which on pictures become narrower instead of their row higher."""


def hex_colour(colour: str | Colour) -> str:
    """Write a colour as matplotlib takes it, ``#rrggbb``; of a name, that of the palette."""
    red, green, blue = PALETTE[colour] if isinstance(colour, str) else colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def style_plot(axes: Axes) -> None:
    """Draw a faint grid, and no frame above and to the right."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


class PictureGrid:
    """A figure of pictures; all heat maps share one scale of 0–1.

    Args:
        shapes: Height and width in px of the pictures of each row.
        columns: Pictures in a row.
        title_lines: Lines of text above a picture.

    Attributes:
        figure: 2.3 inches a picture wide.
        cells: One list of axes a row.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], columns: int, title_lines: int = 1) -> None:
        heights = [min(_TALLEST, shape[0] / shape[1]) * _CELL_INCHES + title_lines * _TITLE_INCHES for shape in shapes]
        size = (_CELL_INCHES * columns + _BAR_INCHES, sum(heights) + _TITLE_INCHES)
        self.figure = Figure(figsize=size, dpi=130, layout="constrained")
        grid = self.figure.subplots(len(shapes), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
        self.cells: list[list[Axes]] = grid.tolist()

    def add_bar(self, label: str, mark: float | None = None) -> None:
        """Add a colour bar of 0–1 beside everything, with a line at ``mark``."""
        everything = [axes for row in self.cells for axes in row]
        mappable, thin = ScalarMappable(cmap=_HEAT), 15 * len(self.cells)
        bar = self.figure.colorbar(mappable, ax=everything, shrink=0.9, pad=0.01, aspect=thin)
        bar.set_label(label)
        if mark is not None:
            bar.ax.axhline(mark, color="white", linewidth=2)


def show_grey(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    """Show grey levels 0–255 as they are."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    _finish(axes, title)


def show_mask(axes: Axes, mask: NDArray[np.bool_], title: str) -> None:
    """Show a mask white."""
    axes.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _finish(axes, title)


def show_heat(axes: Axes, image: NDArray[np.uint8], heat: NDArray[np.float32], opacity: float, title: str) -> None:
    """Show values of 0–1 in colour over an image."""
    show_grey(axes, image, title)
    axes.imshow(heat, cmap=_HEAT, alpha=opacity, vmin=0, vmax=1)


def _finish(axes: Axes, title: str) -> None:
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
