"""Tables and figures of transfer benchmarks: the paper's numbers beside those measured."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from data_modules.errors import UserError
from lightning_emseg.core.tables import MeanSE, mean_se
from lightning_emseg.results.transfer_runs import (
    Benchmark,
    Initialisation,
    PaperRow,
    PaperTable,
    TransferRun,
    UnusableError,
    read_run,
)

Key = TypeVar("Key")


@dataclass(frozen=True, order=True)
class RunGroup:
    """Runs that are compared with each other: of one benchmark, one encoder, and as many iterations."""

    benchmark: str
    iterations: int
    encoder: str


@dataclass(frozen=True)
class SeedScores:
    """Runs that differ in their seed only.

    Attributes:
        scores: IoU by seed.
        folders: Of these runs, by seed; empty for a mean over the parts of a benchmark.
    """

    scores: Mapping[int, float]
    folders: Mapping[int, Path] = field(default_factory=dict)

    @property
    def summary(self) -> MeanSE:
        """Mean over seeds with its standard error (ddof 1)."""
        return mean_se(list(self.scores.values()))


@dataclass(frozen=True)
class Collection:
    """What was collected.

    Attributes:
        cells: By row and name of the initialisation.
        more: Initialisations that runs had and the paper's table has not, in order of their names.
        notes: About runs that were left out, or differ in something that the table does not tell.
    """

    cells: Mapping[RunGroup, Mapping[str, SeedScores]]
    more: tuple[Initialisation, ...]
    notes: tuple[str, ...]


def collect(folders: Sequence[Path], table: PaperTable) -> Collection:
    """Read runs and sort them.

    Args:
        folders: Of runs; one that is given twice counts once.
        table: By whose rules they are recognised.

    Raises:
        UserError: if a folder does not exist, no run can be used, two runs have all but their folder in common
            with the same seed, or rules contradict each other.
    """
    notes: list[str] = []
    found: dict[tuple[RunGroup, str], dict[int, tuple[TransferRun, float]]] = {}
    more: dict[str, Initialisation] = {}
    for folder in _each_once(folders):
        try:
            run = read_run(folder)
            benchmark = _benchmark_of(run, table)
            score = run.score(benchmark.score)
        except UnusableError as error:
            notes.append(f"{folder} is left out: {error}")
            continue
        start = _start_of(run, table)
        if start not in table.columns:
            more[start.name] = start
        seeds = found.setdefault((RunGroup(benchmark.name, run.iterations, run.encoder), start.name), {})
        if run.seed in seeds:
            raise UserError(_twice(seeds[run.seed][0], run))
        seeds[run.seed] = (run, score)
    if not found:
        raise UserError("none of the runs can be used\n" + "\n".join(notes))
    cells: dict[RunGroup, dict[str, SeedScores]] = {}
    for (row, name), seeds in found.items():
        scores = {seed: seeds[seed][1] for seed in sorted(seeds)}
        cells.setdefault(row, {})[name] = SeedScores(scores, {seed: seeds[seed][0].folder for seed in scores})
    for row in sorted(cells):
        runs = [run for (other, _), seeds in found.items() if other == row for run, _ in seeds.values()]
        notes += _differences(f"{table.benchmarks[row.benchmark].title}, {row.iterations:,} iterations", runs)
    _add_means(cells, table)
    return Collection(cells, tuple(more[name] for name in sorted(more)), tuple(notes))


def _each_once(folders: Sequence[Path]) -> list[Path]:
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UserError(f"there is no folder {', '.join(missing)}: give run folders, as default_root_dir names them")
    return list({folder.resolve(): folder for folder in reversed(folders)}.values())[::-1]


def _benchmark_of(run: TransferRun, table: PaperTable) -> Benchmark:
    fitting = [
        each
        for each in table.benchmarks.values()
        if each.store and fnmatchcase(run.store, each.store) and fnmatchcase(run.label, each.label)
    ]
    if not fitting:
        raise UnusableError(f"the label {run.label} of a store {run.store} is none of the table's benchmarks")
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise UserError(f"{run.folder} could be of {names}: make store and label in the file of rows tell them apart")
    return fitting[0]


def _start_of(run: TransferRun, table: PaperTable) -> Initialisation:
    fitting = [each for each in table.columns if each.frozen == run.frozen and _fits(run.weights, each.weights)]
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise UserError(f"{run.folder} could start from {names}: make weights in the file of rows tell them apart")
    if fitting:
        return fitting[0]
    name = f"{run.weights or 'random'}, {'frozen' if run.frozen else 'trained'}"
    return Initialisation(name, name, run.weights, run.frozen)


def _fits(weights: str | None, pattern: str | None) -> bool:
    return weights is None if pattern is None else weights is not None and fnmatchcase(weights, pattern)


def _twice(first: TransferRun, second: TransferRun) -> str:
    different = "; ".join(_differences("", [first, second])) or "their settings are the same"
    return (
        f"{first.folder} and {second.folder} are runs of the same benchmark, initialisation, iterations and seed "
        f"{second.seed} ({different.removeprefix(': ')}): give one of them"
    )


def _differences(where: str, runs: Sequence[TransferRun]) -> list[str]:
    """Settings in which runs differ, with the values and how many runs have each."""
    notes = []
    for key in sorted({key for run in runs for key in run.settings}):
        values = [run.settings.get(key, "none") for run in runs]
        if len(set(values)) > 1:
            counts = ", ".join(f"{value} ({values.count(value)})" for value in sorted(set(values)))
            notes.append(f"{where}: runs differ in {key}: {counts}")
    return notes


def _add_means(cells: dict[RunGroup, dict[str, SeedScores]], table: PaperTable) -> None:
    """Cells of benchmarks that are means of others, over the seeds that all parts have."""
    for benchmark in table.benchmarks.values():
        for row in {
            RunGroup(benchmark.name, row.iterations, row.encoder) for row in cells if row.benchmark in benchmark.parts
        }:
            parts = [cells.get(RunGroup(part, row.iterations, row.encoder), {}) for part in benchmark.parts]
            for name in _common(parts):
                columns = [part[name].scores for part in parts]
                scores = {seed: sum(column[seed] for column in columns) / len(columns) for seed in _common(columns)}
                if scores:
                    cells.setdefault(row, {})[name] = SeedScores(scores)


def _common(mappings: Sequence[Mapping[Key, Any]]) -> list[Key]:
    return [key for key in mappings[0] if all(key in each for each in mappings)]


SCORE = (
    "IoU at a probability of 0.5, not at a threshold chosen on validation data; of several classes, their mean. "
    "Mean ± SE over seeds (ddof 1), n runs."
)
_COLUMNS = (
    *("benchmark", "encoder", "iterations", "initialisation", "mean", "se", "n", "seeds"),
    *("paper", "paper_iterations", "published"),
)


@dataclass(frozen=True)
class FilledTable:
    """A table of the paper and what was collected for it."""

    paper: PaperTable
    collection: Collection

    @property
    def columns(self) -> tuple[Initialisation, ...]:
        """The paper's initialisations, and behind them those that only runs have."""
        return (*self.paper.columns, *self.collection.more)

    def rows(self) -> Iterator[tuple[str, PaperRow | None, list[RunGroup]]]:
        """By benchmark: its name, the paper's row, and the measured ones; last those that the paper has no row of."""
        printed = {row.benchmark: row for row in self.paper.rows}
        others = [name for name in self.paper.benchmarks if name not in printed]
        for name in (*printed, *others):
            measured = sorted(row for row in self.collection.cells if row.benchmark == name)
            if measured or name in printed:
                yield name, printed.get(name), measured

    def cell(self, row: RunGroup, column: Initialisation) -> SeedScores | None:
        """Runs of a row and an initialisation, if there are any."""
        return self.collection.cells[row].get(column.name)

    def missing(self) -> list[str]:
        """What the paper has and no run, or fewer runs than the paper, have."""
        found = []
        for name, printed, measured in self.rows():
            title = self.paper.benchmarks[name].title
            if printed and not measured:
                found.append(f"{title}: no runs")
            for row in measured:
                for column in self.paper.columns:
                    found += self._few(
                        f"{title}, {row.iterations:,} iterations, {column.title}", self.cell(row, column)
                    )
        return found

    def _few(self, what: str, cell: SeedScores | None) -> list[str]:
        if cell is None:
            return [f"{what}: no runs"]
        if len(cell.scores) < self.paper.runs:
            seeds = ", ".join(map(str, cell.scores))
            return [f"{what}: {len(cell.scores)} of {self.paper.runs} runs (seeds {seeds})"]
        return []


def markdown(table: FilledTable) -> str:
    """The table: for each benchmark the paper's row, and below it a row for every number of iterations that was run."""
    lines = [["benchmark", "", "iterations", *(column.title for column in table.columns), "reported"]]
    lines.append(["---"] * len(lines[0]))
    for name, printed, measured in table.rows():
        title = table.paper.benchmarks[name].title
        if printed is not None:
            values = [_paper_text(printed.paper.get(column.name)) for column in table.columns]
            lines.append([title, "paper", f"{printed.iterations:,}", *values, _paper_text(printed.published)])
        for row in measured:
            cells = [_cell_text(table.cell(row, column)) for column in table.columns]
            lines.append(["" if printed else title, f"here, {row.encoder}", f"{row.iterations:,}", *cells, ""])
        if not measured:
            lines.append(["", "here", "", *["missing"] * len(table.columns), ""])
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table.paper.title}\n\n{SCORE}\n\n{body}"


def _paper_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell_text(cell: SeedScores | None) -> str:
    return "missing" if cell is None else f"{cell.summary} (n {cell.summary.n})"


def write_csv(path: Path, table: FilledTable) -> None:
    """A line for each cell, the paper's that were not run included, in full precision."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for record in _records(table):
            writer.writerow({**record, "seeds": " ".join(map(str, record["seeds"]))})


def write_json(path: Path, table: FilledTable) -> None:
    """Everything: cells, the runs that they are of, what is missing, and the notes."""
    runs = [
        {"folder": str(folder), "seed": seed, "iou": cell.scores[seed], **_where(row), "initialisation": name}
        for row, cells in sorted(table.collection.cells.items())
        for name, cell in cells.items()
        for seed, folder in cell.folders.items()
    ]
    content = {
        **{"table": table.paper.title, "score": SCORE, "cells": list(_records(table)), "runs": runs},
        **{"missing": table.missing(), "notes": list(table.collection.notes)},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _where(row: RunGroup) -> dict[str, Any]:
    return {"benchmark": row.benchmark, "encoder": row.encoder, "iterations": row.iterations}


def _records(table: FilledTable) -> Iterator[dict[str, Any]]:
    for name, printed, measured in table.rows():
        nowhere: dict[str, Any] = {"benchmark": name, "encoder": None, "iterations": None}
        for column in table.columns:
            cells = [(_where(row), table.cell(row, column)) for row in measured] or [(nowhere, None)]
            for where, cell in cells:
                yield {**where, "initialisation": column.name, **_numbers(cell), **_printed(printed, column)}


def _numbers(cell: SeedScores | None) -> dict[str, Any]:
    if cell is None:
        return {"mean": None, "se": None, "n": 0, "seeds": []}
    return {"mean": cell.summary.mean, "se": cell.summary.se, "n": cell.summary.n, "seeds": list(cell.scores)}


def _printed(row: PaperRow | None, column: Initialisation) -> dict[str, Any]:
    if row is None:
        return {"paper": None, "paper_iterations": None, "published": None}
    paper = row.paper.get(column.name)
    return {"paper": paper, "paper_iterations": row.iterations, "published": row.published}


IouCurve = Mapping[int, MeanSE]
"""Mean IoU over seeds by number of iterations."""
# Okabe and Ito's palette, told apart by colour-blind readers; markers tell lines apart in print.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#D55E00", "#009E73", "#0072B2", "#CC79A7")
_MARKERS = "os^Dv<>"
_BASE = 10_000
"""Iterations after which the paper takes an IoU for 100 %."""


def iterations_figure(panels: Mapping[str, Mapping[str, IouCurve]]) -> Figure:
    """A column of two panels for each benchmark: IoU, and IoU as a share of that after 10,000 iterations.

    Source: Conrad and Narayan (2021), Figure 4d, which shows both for the mean over benchmarks. Lines are means over
    seeds, bars their standard errors; those of shares are the standard errors of the IoU in the same unit, as if the
    mean that is 100 % were known. Of training that was never as long, that is the mean after the most iterations.

    Args:
        panels: By benchmark, then by initialisation: at least one point each. An initialisation has one colour
            everywhere.

    Raises:
        ValueError: without benchmarks.
    """
    if not panels:
        raise ValueError("there are no benchmarks to plot")
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    width = max(6.4, 3.6 * len(panels))
    figure = Figure(figsize=(width, 6.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(panels), sharex="col", squeeze=False)
    for column, (benchmark, curves) in enumerate(panels.items()):
        steps = sorted({step for curve in curves.values() for step in curve})
        for name, curve in curves.items():
            _draw(axes[0, column], axes[1, column], curve, names.index(name), name)
        axes[0, column].set_title(benchmark)
        axes[1, column].set_xlabel("training iterations")
        _iterations_axis(axes[1, column], steps)
        for each in axes[:, column]:
            each.grid(alpha=0.3)
            each.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("IoU (mean ± SE over seeds)")
    axes[1, 0].set_ylabel("share of the IoU after 10,000\niterations, or the most below (%)")
    shown = {name: line for each in axes[0] for line, name in zip(*each.get_legend_handles_labels(), strict=True)}
    columns = max(1, min(len(shown), int(width // 2.4)))
    figure.legend(list(shown.values()), list(shown), loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _draw(absolute: Axes, share: Axes, curve: IouCurve, index: int, name: str) -> None:
    steps = sorted(curve)
    means = np.array([curve[step].mean for step in steps])
    errors = np.array([curve[step].se or 0.0 for step in steps])
    colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
    _points(absolute, steps, means, errors, colour, marker, name)
    base = curve[max((step for step in steps if step <= _BASE), default=steps[-1])].mean
    if base > 0 and len(steps) > 1:
        _points(share, steps, 100 * means / base, 100 * errors / base, colour, marker, name)


def _points(
    axes: Axes,
    steps: Sequence[int],
    means: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    errors: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    colour: str,
    marker: str,
    name: str,
) -> None:
    axes.errorbar(steps, means, errors, color=colour, marker=marker, markersize=5, linewidth=1.5, capsize=3, label=name)


def _iterations_axis(axes: Axes, steps: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_apart(steps)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(steps: Sequence[int]) -> list[int]:
    """Those whose labels do not overlap on a logarithmic axis, the most iterations among them."""
    closest = (steps[-1] / steps[0]) ** 0.2
    chosen: list[int] = []
    for step in reversed(steps):
        if not chosen or closest * step <= chosen[-1]:
            chosen.append(step)
    return chosen[::-1]
