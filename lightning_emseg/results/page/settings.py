"""Settings, training curves and image quality of runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_emseg.core.tables import mean_se, read_csv
from lightning_emseg.results.files import flatten_settings, number, read_file
from lightning_emseg.results.page.charts import Chart, ChartLine, line_chart
from lightning_emseg.results.page.tables import NOTHING, PageCell, PageTable, mean_cell, number_cell, title
from lightning_emseg.results.runs import RunFolder

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


def settings_section(runs: Sequence[RunFolder]) -> dict[str, Any]:
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


def training_section(runs: Sequence[RunFolder]) -> dict[str, Any]:
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
        charts[quantity in _FIRST_CURVES].append(line_chart(title(quantity), lines, "optimiser steps", title(quantity)))
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


def _quality_tables(path: Path) -> dict[str, Any]:
    records = read_csv(path)
    if not records:
        raise ValueError("it has no rows")
    criteria = [column.removesuffix(_PER_PIXEL) for column in records[0] if column.endswith(_PER_PIXEL)]
    means = []
    for level in dict.fromkeys(record["level"] for record in records):
        found = [record for record in records if record["level"] == level]
        ratios = [mean_se([number(record.get(name + _RATIO)) for record in found]) for name in criteria]
        means.append([PageCell(level), number_cell(len(found)), *map(mean_cell, ratios)])
    rows = [
        [
            *map(PageCell, (record["mosaic"], record["level"], f"{record['height_px']} × {record['width_px']}")),
            *(number_cell(number(record.get(name + _PER_PIXEL))) for name in criteria),
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


def _facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    settings = _as_text(run.config)
    for name, key in _SETTINGS.items():
        value = settings.get(key, "null")
        if value != "null":
            yield name, value.rpartition(".")[2] if key.endswith("class_path") else value
    for verb, environment in run.environments.items():
        if environment.get("started"):
            yield f"{verb} began", str(environment["started"])
    recorded = next(iter(run.environments.values()), {})
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
