"""Training curves of all runs, one plot a quantity."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_emseg.report.page.axis import Axis
from lightning_emseg.report.page.plot import Line, Look, Plot, line_plot
from lightning_emseg.report.page.run_files import Run
from lightning_emseg.report.page.wording import title

_FIRST = ("loss", "f1")
_STEPS = Axis("optimiser steps")
_SOURCES = ("validation tiles", "training patches", "validation, whole mosaics", "")


@dataclass(frozen=True)
class Training:
    """The section.

    Attributes:
        main: Loss and F1.
        further: Of everything else that was logged.
        missing: Names of runs without a log.
    """

    main: Sequence[Plot]
    further: Sequence[Plot]
    missing: Sequence[str]


def training(runs: Sequence[Run]) -> Training:
    """The section of some runs."""
    logged = dict.fromkeys(curve.quantity for run in runs for curve in run.curves)
    plots = {quantity: _plot(quantity, runs) for quantity in [*_FIRST, *logged] if quantity in logged}
    return Training(
        [plot for quantity, plot in plots.items() if quantity in _FIRST],
        [plot for quantity, plot in plots.items() if quantity not in _FIRST],
        [run.name for run in runs if not run.curves],
    )


def _plot(quantity: str, runs: Sequence[Run]) -> Plot:
    lines = [
        Line(
            ", ".join(filter(None, [run.name if len(runs) > 1 else "", curve.source])) or quantity,
            curve.step,
            curve.value,
            # Two sources of one run share colour and marker, and differ in dash and filling.
            Look(number, _SOURCES.index(curve.source), hollow=curve.source == "training patches"),
            curve.se,
        )
        for number, run in enumerate(runs)
        for curve in run.curves
        if curve.quantity == quantity
    ]
    return line_plot(title(quantity), lines, _STEPS, Axis(title(quantity)))
