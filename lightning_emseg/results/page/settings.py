"""Settings, training curves and image quality of runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_emseg.core.tables import mean_se
from lightning_emseg.results.files import QualityTable
from lightning_emseg.results.page.charts import Axis, Line, Look, Plot, line_plot
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


@dataclass(frozen=True)
class Files:
    """What one run recorded, in full.

    Attributes:
        run: Its name.
        folder: Where it is.
        configs: Config files by name.
        packages: Names with versions, one string a verb.
        notes: What could not be read.
    """

    run: str
    folder: str
    configs: Mapping[str, str]
    packages: Mapping[str, str]
    notes: Sequence[str]


@dataclass(frozen=True)
class WhatRan:
    """The section.

    Attributes:
        overview: A column a run.
        differences: Settings that are not the same in all runs, ``None`` for one run.
        files: Of each run.
    """

    overview: PageTable
    differences: PageTable | None
    files: Sequence[Files]


def what_ran(runs: Sequence[RunFolder]) -> WhatRan:
    """The section of some runs."""
    facts = [dict(_facts(run)) for run in runs]
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    rows = [[PageCell(name), *(PageCell(fact.get(name, NOTHING)) for fact in facts)] for name in names]
    overview = PageTable("Settings and surroundings", ["", *(run.name for run in runs)], rows)
    return WhatRan(overview, _differences(runs) if len(runs) > 1 else None, [_files(run) for run in runs])


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings with their full names, values as text.

    >>> dict(flat({"trainer": {"devices": 1, "callbacks": ["a"]}}))
    {'trainer.devices': '1', 'trainer.callbacks': '["a"]'}
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    settings = dict(flat(run.config))
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
            yield key.replace("_", " "), _plain(value)
    yield "code", _git(recorded.get("git"))
    packages = recorded.get("packages")
    if isinstance(packages, Mapping):
        yield "versions", ", ".join(f"{name} {packages[name]}" for name in _VERSIONS if name in packages)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return NOTHING if value is None else str(value)


def _git(state: Any) -> str:
    if not isinstance(state, Mapping):
        return "not in a git repository"
    commit = str(state.get("commit"))[:12]
    return f"commit {commit}" + (" with changes that were not committed" if state.get("changed") else "")


def _differences(runs: Sequence[RunFolder]) -> PageTable:
    settings = [dict(flat(run.config)) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [
        [PageCell(name), *(PageCell(each.get(name, NOTHING)) for each in settings)]
        for name in names
        if len({each.get(name) for each in settings}) > 1
    ]
    return PageTable("Settings that differ", ["setting", *(run.name for run in runs)], rows)


def _files(run: RunFolder) -> Files:
    packages = {
        verb: ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        for verb, found in run.environments.items()
        if isinstance(found.get("packages"), Mapping)
    }
    return Files(run.name, str(run.folder), run.config_texts, packages, run.notes)


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


def training(runs: Sequence[RunFolder]) -> Training:
    """The section of some runs."""
    logged = dict.fromkeys(curve.quantity for run in runs for curve in run.curves)
    plots = {quantity: _plot(quantity, runs) for quantity in [*_FIRST, *logged] if quantity in logged}
    return Training(
        [plot for quantity, plot in plots.items() if quantity in _FIRST],
        [plot for quantity, plot in plots.items() if quantity not in _FIRST],
        [run.name for run in runs if not run.curves],
    )


def _plot(quantity: str, runs: Sequence[RunFolder]) -> Plot:
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


@dataclass(frozen=True)
class Defining:
    """Of one store.

    Attributes:
        title: Folder, and filter of the smaller levels.
        means: Ratios to the original, a row a level.
        mosaics: Per pixel, a row a mosaic and level.
    """

    title: str
    means: PageTable
    mosaics: PageTable


def defining(tables: Sequence[QualityTable]) -> list[Defining]:
    """The section."""
    return [_of_store(table) for table in tables]


def _of_store(table: QualityTable) -> Defining:
    names = [name.replace("_", " ") for name in table.criteria]
    levels = list(dict.fromkeys(each.level for each in table.levels))
    means = []
    for level in levels:
        found = [each for each in table.levels if each.level == level]
        summaries = [mean_se([each.ratio[name] for each in found]) for name in table.criteria]
        means.append([PageCell(level), number_cell(len(found)), *(mean_cell(each.mean, each.se) for each in summaries)])
    rows = [
        [
            PageCell(each.mosaic),
            PageCell(each.level),
            PageCell(each.size),
            *(number_cell(each.per_pixel[n]) for n in table.criteria),
        ]
        for each in table.levels
    ]
    return Defining(
        f"{table.name} (filter of smaller levels: {table.filter})",
        PageTable("Ratio to the original per pixel, mean ± SE over mosaics", ["level", "mosaics", *names], means),
        PageTable("Definition per pixel", ["mosaic", "level", "px", *names], rows),
    )
