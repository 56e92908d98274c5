"""Areas and panels of attribution fields."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_emseg.attribution.extent import AREA, VOLUME
from lightning_emseg.report.page.attribution_files import Area, AreaStudy
from lightning_emseg.report.page.axis import Axis
from lightning_emseg.report.page.plot import Line, Plot, line_plot, look
from lightning_emseg.report.page.run_files import Run
from lightning_emseg.report.page.tables import Cell, Table, mean_cell, number_cell

_K = Axis("threshold k", log=True)
_ALL = "all"


@dataclass(frozen=True)
class Attribution:
    """Attribution of one network.

    Attributes:
        title: Run and verb, or name of the study.
        settings: Name and value of what was computed.
        table: A row an outcome and threshold.
        plots: Areas by threshold, or by epoch.
        panels: Picture files.
    """

    title: str
    settings: Mapping[str, str]
    table: Table
    plots: Sequence[Plot]
    panels: Sequence[Path]


@dataclass(frozen=True)
class Attributing:
    """The section.

    Attributes:
        together: Studies in one plot, where there are several.
        parts: One a study.
    """

    together: Sequence[Plot]
    parts: Sequence[Attribution]

    def paths(self) -> Iterator[Path]:
        """All picture files."""
        for part in self.parts:
            yield from part.panels


def attributing(runs: Sequence[Run], studies: Sequence[AreaStudy]) -> Attributing:
    """The section of what runs hold themselves, and of studies."""
    parts = [_part(f"{run.name}, {study.name}", study) for run in runs for study in run.attribution]
    parts += [_part(f"study {study.name}", study) for study in studies]
    groups = [[study for study in studies if study.extent == extent] for extent in (AREA, VOLUME)]
    return Attributing([_together(group) for group in groups if len(group) > 1], parts)


def _part(title: str, study: AreaStudy) -> Attribution:
    rows = [
        [
            Cell(area.outcome),
            Cell(f"{area.threshold:g}", area.threshold),
            number_cell(area.pixels),
            mean_cell(area.size, area.se),
            Cell(f"{area.share:.3%}", area.share),
            number_cell(area.completeness),
        ]
        for area in study.latest
    ]
    header = [
        "outcome",
        "k",
        "pixels",
        f"Sₖ ({study.extent.sign}), mean ± SE",
        "share of window",
        "relative completeness error",
    ]
    settings = {key.replace("_", " "): str(value) for key, value in study.method.items() if value is not None}
    plots = [plot for plot in (_by_threshold(study), _by_epoch(study)) if plot is not None]
    return Attribution(
        title, settings, Table(f"Areas of attribution fields: {title}", header, rows), plots, study.panels
    )


def _by_threshold(study: AreaStudy) -> Plot | None:
    if not study.curve:
        return None
    groups = _outcomes(study.curve)
    lines = [
        Line(outcome, [area.threshold for area in areas], [area.size for area in areas], look(number))
        for number, (outcome, areas) in enumerate(groups.items())
    ]
    return line_plot("Sₖ by threshold", lines, _K, _size_axis(study))


def _by_epoch(study: AreaStudy) -> Plot | None:
    smallest = min((area.threshold for area in study.areas), default=math.nan)
    groups = _outcomes([area for area in study.areas if area.threshold == smallest])
    if len({area.epoch for area in study.areas if not math.isnan(area.epoch)}) < 2:
        return None
    lines = [
        Line(
            outcome,
            [area.epoch for area in areas],
            [area.size for area in areas],
            look(number),
            [area.se for area in areas],
        )
        for number, (outcome, areas) in enumerate(groups.items())
    ]
    return line_plot(f"Sₖ at k = {smallest:g} during training", lines, Axis("epoch"), Axis(f"Sₖ ({study.extent.sign})"))


def _together(studies: Sequence[AreaStudy]) -> Plot:
    lines = [
        Line(study.name, [area.threshold for area in areas], [area.size for area in areas], look(number))
        for number, study in enumerate(studies)
        if (areas := _outcomes(study.curve).get(_ALL, []))
    ]
    return line_plot("Sₖ of all pixels", lines, _K, _size_axis(studies[0]))


def _size_axis(study: AreaStudy) -> Axis:
    return Axis(f"Sₖ ({study.extent.sign})", log=True)


def _outcomes(areas: Sequence[Area]) -> dict[str, list[Area]]:
    groups: dict[str, list[Area]] = {}
    for area in areas:
        groups.setdefault(area.outcome, []).append(area)
    return groups
