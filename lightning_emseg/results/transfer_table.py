"""Tables and figures of transfer benchmarks: the paper's values beside those measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from data_modules.errors import UserError
from lightning_emseg.core.figures import hex_colour, style_plot
from lightning_emseg.core.tables import MeanSE, mean_se, write_csv, write_json, write_whole
from lightning_emseg.results.files import RunFileError
from lightning_emseg.results.leaderboard import markdown_table
from lightning_emseg.results.papers import Benchmark, Initialisation, PaperRow, PaperTable
from lightning_emseg.results.runs import read_run
from lightning_emseg.results.transfer_runs import TransferRun, make_transfer_run

SCORE = (
    "IoU at a probability of 0.5, not at a threshold chosen on validation data; of several classes, their mean. "
    "Mean ± SE over seeds (ddof 1), n runs."
)
# Markers tell lines apart in print.
_COLOURS = tuple(map(hex_colour, ("black", "orange", "light blue", "red", "green", "blue", "pink")))
_MARKERS = "os^Dv<>"
_BASE = 10_000
"""Iterations after which the paper takes an IoU for 100 %."""


@dataclass(frozen=True, order=True)
class RunGroup:
    """Runs that are compared with each other: one benchmark, one encoder, and as many iterations."""

    benchmark: str
    iterations: int
    encoder: str


@dataclass(frozen=True)
class SeedScores:
    """Runs that differ in their seed only.

    Attributes:
        scores: IoU by seed.
        folders: Run folders by seed; empty for a mean over the parts of a benchmark.
    """

    scores: Mapping[int, float]
    folders: Mapping[int, Path] = field(default_factory=dict)

    @property
    def summary(self) -> MeanSE:
        """Mean over seeds with its standard error (ddof 1)."""
        return mean_se(list(self.scores.values()))


@dataclass(frozen=True)
class TransferTable:
    """Table of a paper, and the runs that were collected for it.

    Attributes:
        paper: Printed table.
        cells: Runs by group and name of the initialisation.
        columns: Initialisations of the paper, and behind them those that only runs have.
        notes: Sentences about runs that were left out, or differ in something that the table does not tell.
    """

    paper: PaperTable
    cells: Mapping[RunGroup, Mapping[str, SeedScores]]
    columns: Sequence[Initialisation]
    notes: Sequence[str]

    def rows(self) -> Iterator[tuple[str, PaperRow | None, list[RunGroup]]]:
        """Yield each benchmark: its name, the paper's row, and the measured ones; last those without a paper's row."""
        printed = {row.benchmark: row for row in self.paper.rows}
        for name in dict.fromkeys((*printed, *self.paper.benchmarks)):
            measured = sorted(group for group in self.cells if group.benchmark == name)
            if measured or name in printed:
                yield name, printed.get(name), measured

    def missing(self) -> list[str]:
        """List cells of the paper's columns that no run, or fewer runs than in the paper, fill."""
        found = []
        for name, printed, measured in self.rows():
            title = self.paper.benchmarks[name].title
            if printed and not measured:
                found.append(f"{title}: no runs")
            for group in measured:
                for column in self.paper.columns:
                    where, cell = (
                        f"{title}, {group.iterations:,} iterations, {column.title}",
                        self.cells[group].get(column.name),
                    )
                    if cell is None:
                        found.append(f"{where}: no runs")
                    elif len(cell.scores) < self.paper.runs:
                        seeds = ", ".join(map(str, cell.scores))
                        found.append(f"{where}: {len(cell.scores)} of {self.paper.runs} runs (seeds {seeds})")
        return found

    def markdown(self) -> str:
        """Return for each benchmark the paper's row, and below it a row for every number of iterations that was run."""
        lines = [["benchmark", "", "iterations", *(column.title for column in self.columns), "reported"]]
        for name, printed, measured in self.rows():
            title = self.paper.benchmarks[name].title
            if printed is not None:
                values = [_paper_text(printed.paper.get(column.name)) for column in self.columns]
                lines.append([title, "paper", f"{printed.iterations:,}", *values, _paper_text(printed.published)])
            for group in measured:
                cells = [self.cells[group].get(column.name) for column in self.columns]
                texts = ["missing" if cell is None else f"{cell.summary} (n {cell.summary.n})" for cell in cells]
                lines.append(["" if printed else title, f"here, {group.encoder}", f"{group.iterations:,}", *texts, ""])
            if not measured:
                lines.append(["", "here", "", *["missing"] * len(self.columns), ""])
        return f"{self.paper.title}\n\n{SCORE}\n\n{markdown_table(lines)}"

    def write(self, folder: Path) -> list[Path]:
        """Write ``table.md``, ``table.csv`` and ``table.json``, and return their paths.

        The CSV file has a line for each cell, the paper's that were not run included, in full precision; the JSON file
        also the runs of each cell, what is missing, and the notes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in ("table.md", "table.csv", "table.json")]
        records = list(self._records())
        write_whole(paths[0], f"{self.markdown()}\n")
        write_csv(paths[1], [{**record, "seeds": " ".join(map(str, record["seeds"]))} for record in records])
        runs = [
            {"folder": str(folder), "seed": seed, "iou": cell.scores[seed], **asdict(group), "initialisation": name}
            for group, cells in sorted(self.cells.items())
            for name, cell in cells.items()
            for seed, folder in cell.folders.items()
        ]
        content = {
            **{"table": self.paper.title, "score": SCORE, "cells": records, "runs": runs},
            **{"missing": self.missing(), "notes": list(self.notes)},
        }
        write_json(paths[2], content)
        return paths

    def _records(self) -> Iterator[dict[str, Any]]:
        for name, printed, measured in self.rows():
            for column in self.columns:
                for group in measured or (None,):
                    cell = self.cells[group].get(column.name) if group else None
                    mean = cell.summary if cell else MeanSE(0, None, 0)
                    yield {
                        "benchmark": name,
                        "encoder": group and group.encoder,
                        "iterations": group and group.iterations,
                        "initialisation": column.name,
                        "mean": mean.mean if cell else None,
                        "se": mean.se,
                        "n": mean.n,
                        "seeds": list(cell.scores) if cell else [],
                        "paper": printed and printed.paper.get(column.name),
                        "paper_iterations": printed and printed.iterations,
                        "published": printed and printed.published,
                    }

    def curves(self) -> dict[str, dict[str, dict[int, MeanSE]]]:
        """Return IoU by benchmark and encoder, initialisation and iterations, where there are several of the last."""
        panels = {}
        for name, _, measured in self.rows():
            for encoder in sorted({group.encoder for group in measured}):
                groups = [group for group in measured if group.encoder == encoder]
                curves: dict[str, dict[int, MeanSE]] = {}
                for column in self.columns:
                    for group in groups:
                        if cell := self.cells[group].get(column.name):
                            curves.setdefault(column.title, {})[group.iterations] = cell.summary
                if any(len(curve) > 1 for curve in curves.values()):
                    panels[f"{self.paper.benchmarks[name].title} ({encoder})"] = curves
        return panels


def collect_transfer_runs(folders: Sequence[Path], paper: PaperTable) -> TransferTable:
    """Read runs and sort them into the cells of a table.

    Args:
        folders: Run folders; one that is given twice counts once.
        paper: Table by whose rules they are recognised.

    Raises:
        UserError: if a folder does not exist, no run can be used, two runs have all but their folder in common
            with the same seed, or rules contradict each other.
    """
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UserError(f"there is no folder {', '.join(missing)}: give run folders, as default_root_dir names them")
    notes: list[str] = []
    found: dict[tuple[RunGroup, str], dict[int, tuple[TransferRun, float]]] = {}
    more: dict[str, Initialisation] = {}
    for folder in reversed({each.resolve(): each for each in reversed(folders)}.values()):
        try:
            run = make_transfer_run(read_run(folder))
            benchmark = _benchmark_of(run, paper)
            score = run.score(benchmark.score)
        except RunFileError as error:
            notes.append(f"{folder} is left out: {error}")
            continue
        start = _start_of(run, paper)
        if start not in paper.columns:
            more[start.name] = start
        seeds = found.setdefault((RunGroup(benchmark.name, run.iterations, run.encoder), start.name), {})
        if run.seed in seeds:
            other = seeds[run.seed][0]
            different = "; ".join(_differences([other, run])) or "their settings are the same"
            raise UserError(
                f"{other.folder} and {folder} are runs of the same benchmark, initialisation, iterations and seed "
                f"{run.seed} ({different}): give one of them"
            )
        seeds[run.seed] = (run, score)
    if not found:
        raise UserError("none of the runs can be used\n" + "\n".join(notes))
    cells: dict[RunGroup, dict[str, SeedScores]] = {}
    for (group, name), seeds in found.items():
        scores = {seed: seeds[seed][1] for seed in sorted(seeds)}
        cells.setdefault(group, {})[name] = SeedScores(scores, {seed: seeds[seed][0].folder for seed in scores})
    for group in sorted(cells):
        runs = [run for (other, _), seeds in found.items() if other == group for run, _ in seeds.values()]
        where = f"{paper.benchmarks[group.benchmark].title}, {group.iterations:,} iterations"
        notes += [f"{where}: {difference}" for difference in _differences(runs)]
    _add_means(cells, paper)
    return TransferTable(paper, cells, [*paper.columns, *(more[name] for name in sorted(more))], notes)


def iterations_figure(panels: Mapping[str, Mapping[str, Mapping[int, MeanSE]]]) -> Figure:
    """Draw a column of two panels for each benchmark: IoU, and IoU as a share of that after 10,000 iterations.

    Source: Conrad and Narayan (2021), Figure 4d, which shows both for the mean over benchmarks. Lines are means over
    seeds, bars their standard errors; those of shares are the standard errors of the IoU in the same unit, as if the
    mean that is 100 % were known. Of training that was never as long, that is the mean after the most iterations.

    Args:
        panels: Mean IoU by benchmark, initialisation and iterations; at least one point each. An initialisation has one
            colour everywhere.

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
        absolute, share = axes[:, column]
        for name, curve in curves.items():
            _draw(absolute, share, curve, names.index(name), name)
        absolute.set_title(benchmark)
        share.set_xlabel("training iterations")
        share.set_xscale("log")
        share.xaxis.set_major_locator(
            FixedLocator(_ticks(sorted({step for curve in curves.values() for step in curve})))
        )
        share.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        share.xaxis.set_minor_locator(NullLocator())
        for each in (absolute, share):
            style_plot(each)
    axes[0, 0].set_ylabel("IoU (mean ± SE over seeds)")
    axes[1, 0].set_ylabel("share of the IoU after 10,000\niterations, or the most below (%)")
    shown = {name: line for each in axes[0] for line, name in zip(*each.get_legend_handles_labels(), strict=True)}
    columns = max(1, min(len(shown), int(width // 2.4)))
    figure.legend(list(shown.values()), list(shown), loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _paper_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _benchmark_of(run: TransferRun, paper: PaperTable) -> Benchmark:
    fitting = [
        each
        for each in paper.benchmarks.values()
        if each.store and fnmatchcase(run.store, each.store) and fnmatchcase(run.label, each.label)
    ]
    if not fitting:
        raise RunFileError(f"the label {run.label} of a store {run.store} is none of the table's benchmarks")
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise UserError(f"{run.folder} could be of {names}: make store and label in the file of rows tell them apart")
    return fitting[0]


def _start_of(run: TransferRun, paper: PaperTable) -> Initialisation:
    def fits(pattern: str | None) -> bool:
        if run.weights is None or pattern is None:
            return run.weights == pattern
        return fnmatchcase(run.weights, pattern)

    fitting = [each for each in paper.columns if each.frozen == run.frozen and fits(each.weights)]
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise UserError(f"{run.folder} could start from {names}: make weights in the file of rows tell them apart")
    name = f"{run.weights or 'random'}, {'frozen' if run.frozen else 'trained'}"
    return fitting[0] if fitting else Initialisation(name, name, run.weights, run.frozen)


def _differences(runs: Sequence[TransferRun]) -> list[str]:
    """Name settings in which runs differ, with the values and how many runs have each."""
    differences = []
    for key in sorted({key for run in runs for key in run.settings}):
        values = [run.settings.get(key, "none") for run in runs]
        if len(set(values)) > 1:
            counts = ", ".join(f"{value} ({values.count(value)})" for value in sorted(set(values)))
            differences.append(f"runs differ in {key}: {counts}")
    return differences


def _add_means(cells: dict[RunGroup, dict[str, SeedScores]], paper: PaperTable) -> None:
    """Add cells of benchmarks that are means of others, over the seeds that all parts have."""
    for benchmark in paper.benchmarks.values():
        for _, iterations, encoder in {astuple(group) for group in cells if group.benchmark in benchmark.parts}:
            parts = [cells.get(RunGroup(part, iterations, encoder), {}) for part in benchmark.parts]
            for name in [name for name in parts[0] if all(name in part for part in parts)]:
                columns = [part[name].scores for part in parts]
                seeds = [seed for seed in columns[0] if all(seed in column for column in columns)]
                scores = {seed: sum(column[seed] for column in columns) / len(columns) for seed in seeds}
                if scores:
                    cells.setdefault(RunGroup(benchmark.name, iterations, encoder), {})[name] = SeedScores(scores)


def _draw(absolute: Axes, share: Axes, curve: Mapping[int, MeanSE], index: int, name: str) -> None:
    steps = sorted(curve)
    means = np.array([curve[step].mean for step in steps])
    errors = np.array([curve[step].se or 0.0 for step in steps])
    style: Any = {"markersize": 5, "linewidth": 1.5, "capsize": 3, "label": name}
    style |= {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}
    absolute.errorbar(steps, means, errors, **style)
    base = curve[max((step for step in steps if step <= _BASE), default=steps[-1])].mean
    if base > 0 and len(steps) > 1:
        share.errorbar(steps, 100 * means / base, 100 * errors / base, **style)


def _ticks(steps: Sequence[int]) -> list[int]:
    """Choose steps whose labels do not overlap on a logarithmic axis, the most iterations among them."""
    closest = (steps[-1] / steps[0]) ** 0.2
    chosen: list[int] = []
    for step in reversed(steps):
        if not chosen or closest * step <= chosen[-1]:
            chosen.append(step)
    return chosen[::-1]
