"""Mean firing rates of encoders against the strength of six distortions, as Figure 3a of Conrad and Narayan (2021)."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emseg.features.distortions import DISTORTIONS, Distortion
from lightning_emseg.features.firing_rate import FiringRates

# Okabe and Ito's colours, told apart by colour-blind readers; with three styles they make eighteen different lines.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLES = ("-", "--", "-.")
_COLUMNS = 3


def firing_rate_figure(rates: Mapping[str, FiringRates], distortions: Sequence[Distortion] = DISTORTIONS) -> Figure:
    """A panel a distortion: a line an encoder with a band of ± SE, and the range of the paper's pretraining dashed.

    Args:
        rates: By encoder, with a curve for each distortion.
        distortions: One panel each.

    Returns:
        11 inches wide.
    """
    rows = -(-len(distortions) // _COLUMNS)
    figure = Figure(figsize=(11, 1 + 3.1 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    for axes, distortion in itertools.zip_longest(panels.flat, distortions):
        if distortion is None:
            axes.set_visible(False)
        else:
            _draw(axes, distortion, rates)
    for axes in panels[:, 0]:
        axes.set_ylabel("mean firing rate")
    lines, names = panels[0, 0].get_legend_handles_labels()
    if any(each.pretraining for each in distortions):
        lines.append(next(axes for axes in panels.flat if axes.get_gid() == "range").lines[0])
        names.append("range of the paper's pretraining")
    figure.legend(lines, names, loc="outside upper center", ncols=min(4, len(lines)), frameon=False)
    return figure


def _draw(axes: Axes, distortion: Distortion, rates: Mapping[str, FiringRates]) -> None:
    for end in distortion.pretraining or ():
        axes.axvline(end, color="black", linestyle=(0, (3, 3)), linewidth=1, zorder=1)
        axes.set_gid("range")
    styles = ((colour, style) for style in _STYLES for colour in _COLOURS)
    for (name, found), (colour, style) in zip(rates.items(), itertools.cycle(styles)):
        curve = found.curves[distortion.name]
        mean = np.array([point.mean for point in curve])
        error = np.array([point.se or 0.0 for point in curve])
        label = f"{name} ({found.selective:,} of {found.neurons:,} neurons)"
        axes.plot(distortion.strengths, mean, color=colour, linestyle=style, marker=".", label=label, zorder=3)
        axes.fill_between(distortion.strengths, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel=distortion.axis, ylim=(0, 1.03))
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
