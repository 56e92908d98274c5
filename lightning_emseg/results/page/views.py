"""Error maps and attribution fields of runs."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_emseg.attribution.areas import AREA, VOLUME
from lightning_emseg.core.tables import MeanSE
from lightning_emseg.results.page.charts import Chart, ChartLine, line_chart
from lightning_emseg.results.page.tables import PageCell, PageTable, mean_cell, number_cell
from lightning_emseg.results.runs import VERBS, AreaStudy, Layers, MeanArea, MosaicErrors, RunFolder

_OF_THE_MOSAIC = ("image", "truth")
_NAMES = {"probability": "prediction"}
_ALL = "all"


def error_section(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Build the views of all mosaics; one that several runs scored is shown once, with layers of each.

    Runs without error maps of a verb are shown by its overlays, and those with neither are named.
    """
    groups: dict[tuple[object, ...], dict[str, MosaicErrors]] = {}
    for verb in VERBS:
        for run in runs:
            for errors in run.errors.get(verb, ()):
                # The truth tells mosaics of different stores apart, which may have the same name.
                truth = errors.layers.get("truth")
                digest = hashlib.sha256(truth.read_bytes()).hexdigest() if truth else ""
                groups.setdefault((verb, errors.key, errors.shape_px, digest), {})[run.name] = errors
    figures = {
        run.name: [path for path in run.figures if not any(path.stem.startswith(f"{verb}-") for verb in run.errors)]
        for run in runs
    }
    return {
        "mosaics": [_mosaic(str(verb), found) for (verb, *_), found in groups.items()],
        "figures": {name: paths for name, paths in figures.items() if paths},
        "missing": [run.name for run in runs if not run.errors and not run.figures],
    }


def error_paths(section: Mapping[str, Any]) -> Iterator[Path]:
    """Yield all picture files of :func:`error_section`."""
    for mosaic in section["mosaics"]:
        yield from (path for view in mosaic["views"] for _, path in view["layers"])
    for figures in section["figures"].values():
        yield from figures


def attribution_section(runs: Sequence[RunFolder], studies: Sequence[AreaStudy]) -> dict[str, Any]:
    """Build the areas and panels of what runs hold themselves, and of studies; several studies share a chart."""
    parts = [_study(f"{run.name}, {study.name}", study) for run in runs for study in run.attribution]
    parts += [_study(f"study {study.name}", study) for study in studies]
    charts = []
    for extent in (AREA, VOLUME):
        group = [study for study in studies if study.extent == extent]
        if len(group) > 1:
            curves = {study.name: [area for area in study.curve if area.outcome == _ALL] for study in group}
            charts.append(_by_threshold("Sₖ of all pixels", curves, extent.sign))
    return {"charts": charts, "parts": parts}


def _mosaic(verb: str, found: Mapping[str, MosaicErrors]) -> dict[str, Any]:
    first = next(iter(found.values()))
    several = len(found) > 1
    layers = [(name, first.layers[name]) for name in _OF_THE_MOSAIC if name in first.layers]
    for run, errors in found.items():
        layers += _of_run(errors.layers, f", {run}" if several else "")
    views, boxes = [{"title": "whole mosaic", "layers": layers}], []
    for run, errors in found.items():
        for number, region in enumerate(errors.regions, 1):
            (y, x), (height, width), (rows, columns) = region.origin_px, region.size_px, errors.shape_px
            wrong = f"{region.error_px:,} px wrong beyond the tolerance"
            where = f"y {y:,} – {y + height:,}, x {x:,} – {x + width:,} px; {wrong}"
            title = f"{f'{run}, ' if several else ''}worst region {number}: {where}"
            mine = [(name, region.layers[name]) for name in _OF_THE_MOSAIC if name in region.layers]
            letter = chr(ord("A") + list(found).index(run)) if several else ""
            # Shares of the picture's sides in %.
            place = {"left": x / columns, "top": y / rows, "width": width / columns, "height": height / rows}
            style = ";".join(f"{side}:{100 * share:.2f}%" for side, share in place.items())
            boxes.append({"view": len(views), "text": f"{letter}{number}", "title": title, "style": style})
            views.append({"title": title, "layers": [*mine, *_of_run(region.layers, "")]})
    section = "" if first.section is None else f", section {first.section}"
    return {
        "title": f"{first.key} ({verb}){section}",
        "views": views,
        "boxes": boxes,
        "table": _counts(found),
        "worst": _worst(found),
    }


def _of_run(layers: Layers, suffix: str) -> list[tuple[str, Path]]:
    return [(_NAMES.get(name, name) + suffix, layers[name]) for name in layers if name not in _OF_THE_MOSAIC]


def _counts(found: Mapping[str, MosaicErrors]) -> PageTable:
    outcomes = list(dict.fromkeys(name for errors in found.values() for name in errors.pixels))
    rows = []
    for run, errors in found.items():
        pixels = [errors.pixels.get(name, math.nan) for name in outcomes]
        objects = (errors.breaks, errors.breaks_per_mm, errors.spurious)
        rows.append([PageCell(run), *map(number_cell, (errors.threshold, errors.tolerance_nm, *pixels, *objects))])
    header = ["run", "threshold", "tolerance (nm)", *(name.replace("_", " ") for name in outcomes)]
    return PageTable("Pixels and objects", [*header, "breaks", "breaks per mm", "spurious membranes"], rows)


def _worst(found: Mapping[str, MosaicErrors]) -> PageTable:
    rows = [
        [PageCell(run), PageCell(kind), *map(number_cell, (round(y), round(x), length))]
        for run, errors in found.items()
        for kind, worst in errors.worst.items()
        for y, x, length in worst
    ]
    caption = f"Largest breaks and spurious membranes ({len(rows):,})"
    return PageTable(caption, ["run", "kind", "y (px)", "x (px)", "length (nm)"], rows)


def _study(title: str, study: AreaStudy) -> dict[str, Any]:
    rows = [
        [
            PageCell(area.outcome),
            PageCell(f"{area.threshold:g}", area.threshold),
            number_cell(area.pixels),
            mean_cell(MeanSE(area.size, area.se, area.pixels)),
            PageCell(f"{area.share:.3%}", area.share),
            number_cell(area.completeness),
        ]
        for area in study.latest
    ]
    unit = study.extent.sign
    header = ["outcome", "k", "pixels", f"Sₖ ({unit}), mean ± SE", "share of window", "relative completeness error"]
    charts = [_by_threshold("Sₖ by threshold", _by_outcome(study.curve), unit)] if study.curve else []
    smallest = min((area.threshold for area in study.areas), default=math.nan)
    areas = [area for area in study.areas if area.threshold == smallest]
    if len({area.epoch for area in areas if not math.isnan(area.epoch)}) > 1:
        lines = [
            ChartLine(
                outcome, [a.epoch for a in found], [a.size for a in found], colour=n, errors=[a.se for a in found]
            )
            for n, (outcome, found) in enumerate(_by_outcome(areas).items())
        ]
        charts.append(line_chart(f"Sₖ at k = {smallest:g} during training", lines, "epoch", f"Sₖ ({unit})"))
    return {
        "title": title,
        "settings": {key.replace("_", " "): str(value) for key, value in study.method.items() if value is not None},
        "table": PageTable(f"Areas of attribution fields: {title}", header, rows),
        "charts": charts,
        "panels": study.panels,
    }


def _by_threshold(title: str, curves: Mapping[str, Sequence[MeanArea]], unit: str) -> Chart:
    lines = [
        ChartLine(name, [area.threshold for area in curve], [area.size for area in curve], colour)
        for colour, (name, curve) in enumerate(curves.items())
    ]
    return line_chart(title, lines, "threshold k", f"Sₖ ({unit})", is_log=True)


def _by_outcome(areas: Sequence[MeanArea]) -> dict[str, list[MeanArea]]:
    return {name: [area for area in areas if area.outcome == name] for name in dict.fromkeys(a.outcome for a in areas)}
