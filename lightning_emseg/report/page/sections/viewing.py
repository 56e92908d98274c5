"""Pictures of mosaics in layers, and of their worst regions."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_emseg.error_analysis.error_map import MEANINGS
from lightning_emseg.error_analysis.error_picture import COLOURS
from lightning_emseg.report.overlay import IGNORED
from lightning_emseg.report.page.error_index import Layers, MosaicErrors
from lightning_emseg.report.page.run_files import VERBS, Run
from lightning_emseg.report.page.tables import Cell, Table, number_cell

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
    table: Table
    worst: Table


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


def viewing(runs: Sequence[Run]) -> Viewing:
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


def _counts(found: Mapping[str, MosaicErrors]) -> Table:
    outcomes = list(dict.fromkeys(name for errors in found.values() for name in errors.pixels))
    header = ["run", "threshold", "tolerance (nm)", *(name.replace("_", " ") for name in outcomes)]
    rows = [
        [
            Cell(run),
            *map(number_cell, (errors.threshold, errors.tolerance_nm)),
            *(number_cell(errors.pixels.get(name, float("nan"))) for name in outcomes),
            number_cell(errors.breaks.count),
            number_cell(errors.breaks.per_mm),
            number_cell(errors.spurious.count),
        ]
        for run, errors in found.items()
    ]
    return Table("Pixels and objects", [*header, "breaks", "breaks per mm", "spurious membranes"], rows)


def _worst(found: Mapping[str, MosaicErrors]) -> Table:
    rows = [
        [Cell(run), Cell(kind), *(number_cell(round(at)) for at in fault.centre_px), number_cell(fault.length_nm)]
        for run, errors in found.items()
        for kind, faults in (("break", errors.breaks), ("spurious membrane", errors.spurious))
        for fault in faults.worst
    ]
    caption = f"Largest breaks and spurious membranes ({len(rows):,})"
    return Table(caption, ["run", "kind", "y (px)", "x (px)", "length (nm)"], rows)
