"""Lorenz curves of the sources of a tile set, one a stage of its curation."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's colours, told apart by colour-blind readers.
_COLOURS = ("#0072b2", "#d55e00", "#009e73")


def lorenz_figure(curves: Mapping[str, tuple[NDArray[np.float64], float]]) -> Figure:
    """Share of tiles over share of sources, as in Appendix 1 of Conrad and Narayan (2021).

    Args:
        curves: By stage the curve ``float64 (sources + 1,)`` of values 0–1, and its Gini coefficient.

    Returns:
        5 × 5 inches.
    """
    figure = Figure(figsize=(5, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="every source the same")
    for (name, (curve, gini)), colour in zip(curves.items(), _COLOURS, strict=False):
        label = f"{name}, Gini {gini:.3f}"
        axes.plot(np.linspace(0, 1, len(curve)), curve, color=colour, linewidth=2, label=label)
    axes.set(
        xlabel="share of sources, those with fewest tiles first", ylabel="share of tiles", xlim=(0, 1), ylim=(0, 1)
    )
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    return figure
