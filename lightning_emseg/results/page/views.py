"""Error maps and attribution fields of runs."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_emseg.attribution.areas import AREA, VOLUME
from lightning_emseg.core.pictures import IGNORED
from lightning_emseg.evaluation.error_pictures import COLOURS
from lightning_emseg.evaluation.errors import MEANINGS
from lightning_emseg.results.page.charts import Axis, Line, Plot, line_plot, look
from lightning_emseg.results.page.tables import PageCell, PageTable, mean_cell, number_cell
from lightning_emseg.results.runs import VERBS, Area, AreaStudy, Layers, MosaicErrors, RunFolder

LEGEND = {**{MEANINGS[outcome]: colour for outcome, colour in COLOURS.items()}, "ignored": IGNORED}
"""Colours of error maps."""
_OF_THE_MOSAIC = ("image", "truth")
_NAMES = {"probability": "prediction"}


@dataclass(frozen=True)
class Layer:
    """A picture of a view.

    Attributes:
        name: As the slider says it.
        path: Of the file.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class View:
    """A whole mosaic, or one of its regions.

    Attributes:
        title: In words.
        layers: Of one size.
    """

    title: str
    layers: Sequence[Layer]


@dataclass(frozen=True)
class Box:
    """Where a view lies in the picture of the whole mosaic, as shares of its sides in %.

    Attributes:
        view: Number of the view.
        text: What to write into it.
        title: Of the view.
        left: From the left side.
        top: From the upper side.
        width: Of the box.
        height: Of the box.
    """

    view: int
    text: str
    title: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class MosaicViews:
    """All views of a mosaic.

    Attributes:
        title: Verb and name.
        views: The whole mosaic first.
        boxes: Of the others.
        table: Numbers of errors, a row a run.
        worst: Breaks and spurious membranes, a row each.
    """

    title: str
    views: Sequence[View]
    boxes: Sequence[Box]
    table: PageTable
    worst: PageTable


@dataclass(frozen=True)
class Viewing:
    """The section.

    Attributes:
        mosaics: With layers.
        figures: Pictures by name of run, where it has no error maps of their verb.
        missing: Names of runs with neither.
    """

    mosaics: Sequence[MosaicViews]
    figures: Mapping[str, Sequence[Path]]
    missing: Sequence[str]

    def paths(self) -> Iterator[Path]:
        """All picture files."""
        for mosaic in self.mosaics:
            yield from (layer.path for view in mosaic.views for layer in view.layers)
        for figures in self.figures.values():
            yield from figures


def viewing(runs: Sequence[RunFolder]) -> Viewing:
    """The section of some runs; a mosaic that several of them scored is shown once, with layers of each."""
    groups: dict[tuple[object, ...], dict[str, MosaicErrors]] = {}
    for verb in VERBS:
        for run in runs:
            for errors in run.errors.get(verb, ()):
                groups.setdefault((verb, errors.key, errors.shape_px, _digest(errors)), {})[run.name] = errors
    figures = {
        run.name: [path for path in run.figures if not any(path.stem.startswith(f"{verb}-") for verb in run.errors)]
        for run in runs
    }
    return Viewing(
        [_mosaic(str(verb), found) for (verb, *_), found in groups.items()],
        {name: paths for name, paths in figures.items() if paths},
        [run.name for run in runs if not run.errors and not run.figures],
    )


def _digest(errors: MosaicErrors) -> str:
    """Tells mosaics of different stores apart, which may have the same name."""
    truth = errors.layers.get("truth")
    return "" if truth is None else hashlib.sha256(truth.read_bytes()).hexdigest()


def _mosaic(verb: str, found: Mapping[str, MosaicErrors]) -> MosaicViews:
    first = next(iter(found.values()))
    several = len(found) > 1
    layers = [Layer(name, first.layers[name]) for name in _OF_THE_MOSAIC if name in first.layers]
    for run, errors in found.items():
        layers += _of_run(errors.layers, f", {run}" if several else "")
    views, boxes = [View("whole mosaic", layers)], []
    for run, errors in found.items():
        for number, region in enumerate(errors.regions, 1):
            (y, x), (height, width) = region.origin_px, region.size_px
            wrong = f"{region.error_px:,} px wrong beyond the tolerance"
            where = f"y {y:,} – {y + height:,}, x {x:,} – {x + width:,} px; {wrong}"
            title = f"{f'{run}, ' if several else ''}worst region {number}: {where}"
            mine = [Layer(name, region.layers[name]) for name in _OF_THE_MOSAIC if name in region.layers]
            rows, columns = errors.shape_px
            place = (100 * x / columns, 100 * y / rows, 100 * width / columns, 100 * height / rows)
            letter = chr(ord("A") + list(found).index(run)) if several else ""
            boxes.append(Box(len(views), f"{letter}{number}", title, *place))
            views.append(View(title, [*mine, *_of_run(region.layers, "")]))
    section = "" if first.section is None else f", section {first.section}"
    return MosaicViews(f"{first.key} ({verb}){section}", views, boxes, _counts(found), _worst(found))


def _of_run(layers: Layers, suffix: str) -> list[Layer]:
    names = [name for name in layers if name not in _OF_THE_MOSAIC]
    return [Layer(_NAMES.get(name, name) + suffix, layers[name]) for name in names]


def _counts(found: Mapping[str, MosaicErrors]) -> PageTable:
    outcomes = list(dict.fromkeys(name for errors in found.values() for name in errors.pixels))
    header = ["run", "threshold", "tolerance (nm)", *(name.replace("_", " ") for name in outcomes)]
    rows = [
        [
            PageCell(run),
            *map(number_cell, (errors.threshold, errors.tolerance_nm)),
            *(number_cell(errors.pixels.get(name, float("nan"))) for name in outcomes),
            number_cell(errors.breaks.count),
            number_cell(errors.breaks.per_mm),
            number_cell(errors.spurious.count),
        ]
        for run, errors in found.items()
    ]
    return PageTable("Pixels and objects", [*header, "breaks", "breaks per mm", "spurious membranes"], rows)


def _worst(found: Mapping[str, MosaicErrors]) -> PageTable:
    rows = [
        [
            PageCell(run),
            PageCell(kind),
            *(number_cell(round(at)) for at in fault.centre_px),
            number_cell(fault.length_nm),
        ]
        for run, errors in found.items()
        for kind, faults in (("break", errors.breaks), ("spurious membrane", errors.spurious))
        for fault in faults.worst
    ]
    caption = f"Largest breaks and spurious membranes ({len(rows):,})"
    return PageTable(caption, ["run", "kind", "y (px)", "x (px)", "length (nm)"], rows)


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
    table: PageTable
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


def attributing(runs: Sequence[RunFolder], studies: Sequence[AreaStudy]) -> Attributing:
    """The section of what runs hold themselves, and of studies."""
    parts = [_part(f"{run.name}, {study.name}", study) for run in runs for study in run.attribution]
    parts += [_part(f"study {study.name}", study) for study in studies]
    groups = [[study for study in studies if study.extent == extent] for extent in (AREA, VOLUME)]
    return Attributing([_together(group) for group in groups if len(group) > 1], parts)


def _part(title: str, study: AreaStudy) -> Attribution:
    rows = [
        [
            PageCell(area.outcome),
            PageCell(f"{area.threshold:g}", area.threshold),
            number_cell(area.pixels),
            mean_cell(area.size, area.se),
            PageCell(f"{area.share:.3%}", area.share),
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
        title, settings, PageTable(f"Areas of attribution fields: {title}", header, rows), plots, study.panels
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
