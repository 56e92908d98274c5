"""Sections about settings, training, image quality, errors and attribution."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_emseg.attribution.areas import AREA, VOLUME
from lightning_emseg.attribution.table import FieldSummary
from lightning_emseg.core.tables import mean_se, read_csv, to_number
from lightning_emseg.evaluation.error_pictures import Layers, MosaicErrors
from lightning_emseg.results.files import flatten_settings, read_file
from lightning_emseg.results.page.charts import Chart, ChartLine, line_chart
from lightning_emseg.results.page.tables import NOTHING, PageCell, PageTable, column_title, mean_cell, number_cell
from lightning_emseg.results.runs import VERBS, AreaStudy, CollectedRun

_SETTINGS = {
    "network": "model.class_path",
    "encoder": "model.init_args.encoder",
    "loss": "model.init_args.loss.class_path",
    "optimizer": "model.init_args.optimizer.class_path",
    "learning rate": "model.init_args.optimizer.init_args.lr",
    "data": "data.class_path",
    "store": "data.init_args.store",
    "patch (px)": "data.init_args.patch_size",
    "batch": "data.init_args.batch_size",
    "most epochs": "trainer.max_epochs",
    "most time": "trainer.max_time",
    "precision": "trainer.precision",
}
_VERSIONS = ("lightning-emseg", "torch", "pytorch-lightning", "segmentation_models_pytorch", "numpy")
_FIRST_CURVES = ("loss", "f1")
_SOURCES = ("validation tiles", "training patches", "validation, whole mosaics", "")
QUALITY_FILE = "quality.csv"
_PER_PIXEL, _RATIO = "_per_pixel", "_ratio"
_OF_THE_MOSAIC = ("image", "truth")
_NAMES = {"probability": "prediction"}
_ALL = "all"


def settings_section(runs: Sequence[CollectedRun]) -> dict[str, Any]:
    """Build an overview with a column a run, the settings that differ, and what each run recorded in full."""
    facts = [dict(_facts(run)) for run in runs]
    settings = [_as_text(run.config) for run in runs]
    names = list(dict.fromkeys(name for each in settings for name in each))
    differing = [name for name in names if len({each.get(name) for each in settings}) > 1]
    columns = [run.name for run in runs]
    packages = [
        {
            verb: ", ".join(f"{name} {version}" for name, version in found["packages"].items())
            for verb, found in run.environments.items()
            if isinstance(found.get("packages"), Mapping)
        }
        for run in runs
    ]
    return {
        "overview": _by_run("Settings and surroundings", ["", *columns], facts),
        "differences": _by_run("Settings that differ", ["setting", *columns], settings, differing),
        "runs": list(zip(runs, packages, strict=True)),
    }


def training_section(runs: Sequence[CollectedRun]) -> dict[str, Any]:
    """Draw a chart for each quantity that was logged, loss and F1 first."""
    logged = dict.fromkeys(curve.quantity for run in runs for curve in run.curves)
    charts: dict[bool, list[Chart]] = {True: [], False: []}
    for quantity in dict.fromkeys((*(each for each in _FIRST_CURVES if each in logged), *logged)):
        lines = [
            ChartLine(
                ", ".join(filter(None, [run.name if len(runs) > 1 else "", curve.source])) or quantity,
                curve.step,
                curve.value,
                # Two sources of one run share colour and marker, and differ in dash and filling.
                colour,
                _SOURCES.index(curve.source),
                curve.source == "training patches",
                curve.se,
            )
            for colour, run in enumerate(runs)
            for curve in run.curves
            if curve.quantity == quantity
        ]
        charts[quantity in _FIRST_CURVES].append(
            line_chart(column_title(quantity), lines, "optimiser steps", column_title(quantity))
        )
    missing = [run.name for run in runs if not run.curves]
    return {"charts": charts[True], "further": charts[False], "missing": missing}


def quality_tables(folder: Path) -> dict[str, Any]:
    """Build the tables of image definition criteria before and after downsampling.

    Args:
        folder: Folder of ``emseg data quality --out``.

    Raises:
        RunFileError: if its ``quality.csv`` is missing or damaged.
    """
    advice = "give --quality a folder of `emseg data quality --out`"
    return read_file(folder / QUALITY_FILE, _quality_tables, advice)


def error_section(runs: Sequence[CollectedRun]) -> dict[str, Any]:
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


def attribution_section(runs: Sequence[CollectedRun], studies: Sequence[AreaStudy]) -> dict[str, Any]:
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


def _quality_tables(path: Path) -> dict[str, Any]:
    records = read_csv(path)
    if not records:
        raise ValueError("it has no rows")
    criteria = [column.removesuffix(_PER_PIXEL) for column in records[0] if column.endswith(_PER_PIXEL)]
    means = []
    for level in dict.fromkeys(record["level"] for record in records):
        found = [record for record in records if record["level"] == level]
        ratios = [mean_se([to_number(record.get(name + _RATIO)) for record in found]) for name in criteria]
        means.append([PageCell(level), number_cell(len(found)), *map(mean_cell, ratios)])
    rows = [
        [
            *map(PageCell, (record["mosaic"], record["level"], f"{record['height_px']} × {record['width_px']}")),
            *(number_cell(to_number(record.get(name + _PER_PIXEL))) for name in criteria),
        ]
        for record in records
    ]
    names = [name.replace("_", " ") for name in criteria]
    return {
        "title": f"{path.resolve().parent.name} (filter of smaller levels: {records[0]['filter']})",
        "means": PageTable(
            "Ratio to the original per pixel, mean ± SE over mosaics", ["level", "mosaics", *names], means
        ),
        "mosaics": PageTable("Definition per pixel", ["mosaic", "level", "px", *names], rows),
    }


def _as_text(config: Mapping[str, Any]) -> dict[str, str]:
    settings = flatten_settings(config)
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in settings}


def _by_run(
    caption: str, columns: Sequence[str], runs: Sequence[Mapping[str, str]], names: Sequence[str] | None = None
) -> PageTable:
    found = dict.fromkeys(name for each in runs for name in each) if names is None else names
    rows = [[PageCell(name), *(PageCell(each.get(name, NOTHING)) for each in runs)] for name in found]
    return PageTable(caption, columns, rows)


def _facts(run: CollectedRun) -> Iterator[tuple[str, str]]:
    settings = _as_text(run.config)
    for name, key in _SETTINGS.items():
        value = settings.get(key, "null")
        if value != "null":
            yield name, value.rpartition(".")[2] if key.endswith("class_path") else value
    for verb, environment in run.environments.items():
        if environment.get("started"):
            yield f"{verb} began", str(environment["started"])
    recorded = next(filter(None, run.environments.values()), {})
    for key, value in recorded.items():
        if key not in ("started", "packages", "git"):
            listed = " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
            yield key.replace("_", " "), NOTHING if value is None else listed
    git, packages = recorded.get("git"), recorded.get("packages")
    if isinstance(git, Mapping):
        changed = " with changes that were not committed" if git.get("changed") else ""
        yield "code", f"commit {str(git.get('commit'))[:12]}{changed}"
    else:
        yield "code", "not in a git repository"
    if isinstance(packages, Mapping):
        yield "versions", ", ".join(f"{name} {packages[name]}" for name in _VERSIONS if name in packages)


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
            mean_cell(area.sizes[0].nm),
            PageCell(f"{area.sizes[0].share.mean:.3%}", area.sizes[0].share.mean),
            number_cell(area.completeness),
        ]
        for area in study.latest
    ]
    unit = study.extent.sign
    header = ["outcome", "k", "pixels", f"Sₖ ({unit}), mean ± SE", "share of window", "relative completeness error"]
    charts = [_by_threshold("Sₖ by threshold", _by_outcome(study.curve), unit)] if study.curve else []
    smallest = min((area.threshold for area in study.areas), default=math.nan)
    areas = [area for area in study.areas if area.threshold == smallest]
    if len({area.epoch for area in areas if area.epoch is not None}) > 1:
        lines = []
        for number, (outcome, found) in enumerate(_by_outcome(areas).items()):
            epochs = [math.nan if area.epoch is None else area.epoch for area in found]
            means = [area.sizes[0].nm for area in found]
            errors = [math.nan if mean.se is None else mean.se for mean in means]
            lines.append(ChartLine(outcome, epochs, [mean.mean for mean in means], number, errors=errors))
        charts.append(line_chart(f"Sₖ at k = {smallest:g} during training", lines, "epoch", f"Sₖ ({unit})"))
    return {
        "title": title,
        "settings": {key.replace("_", " "): str(value) for key, value in study.method.items() if value is not None},
        "table": PageTable(f"Areas of attribution fields: {title}", header, rows),
        "charts": charts,
        "panels": study.panels,
    }


def _by_threshold(title: str, curves: Mapping[str, Sequence[FieldSummary]], unit: str) -> Chart:
    lines = [
        ChartLine(name, [area.threshold for area in curve], [area.sizes[0].nm.mean for area in curve], colour)
        for colour, (name, curve) in enumerate(curves.items())
    ]
    return line_chart(title, lines, "threshold k", f"Sₖ ({unit})", is_log=True)


def _by_outcome(areas: Sequence[FieldSummary]) -> dict[str, list[FieldSummary]]:
    return {name: [area for area in areas if area.outcome == name] for name in dict.fromkeys(a.outcome for a in areas)}
