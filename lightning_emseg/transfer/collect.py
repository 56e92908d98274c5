"""Runs sorted into the cells of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from data_modules.errors import UserError
from lightning_emseg.metrics.table import Summary, summarise
from lightning_emseg.transfer.definition import Benchmark, Initialisation, PaperTable
from lightning_emseg.transfer.runs import Run, UnusableError, read_run

Key = TypeVar("Key")


@dataclass(frozen=True, order=True)
class Row:
    """Runs that are compared with each other: of one benchmark, one encoder, and as many iterations."""

    benchmark: str
    iterations: int
    encoder: str


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed only.

    Attributes:
        scores: IoU by seed.
        folders: Of these runs, by seed; empty for a mean over the parts of a benchmark.
    """

    scores: Mapping[int, float]
    folders: Mapping[int, Path] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        """Mean over seeds with its standard error (ddof 1)."""
        return summarise(list(self.scores.values()))


@dataclass(frozen=True)
class Collection:
    """What was collected.

    Attributes:
        cells: By row and name of the initialisation.
        more: Initialisations that runs had and the paper's table has not, in order of their names.
        notes: About runs that were left out, or differ in something that the table does not tell.
    """

    cells: Mapping[Row, Mapping[str, Cell]]
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
    found: dict[tuple[Row, str], dict[int, tuple[Run, float]]] = {}
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
        seeds = found.setdefault((Row(benchmark.name, run.iterations, run.encoder), start.name), {})
        if run.seed in seeds:
            raise UserError(_twice(seeds[run.seed][0], run))
        seeds[run.seed] = (run, score)
    if not found:
        raise UserError("none of the runs can be used\n" + "\n".join(notes))
    cells: dict[Row, dict[str, Cell]] = {}
    for (row, name), seeds in found.items():
        scores = {seed: seeds[seed][1] for seed in sorted(seeds)}
        cells.setdefault(row, {})[name] = Cell(scores, {seed: seeds[seed][0].folder for seed in scores})
    for row in sorted(cells):
        runs = [run for (other, _), seeds in found.items() if other == row for run, _ in seeds.values()]
        notes += _differences(f"{table.benchmarks[row.benchmark].title}, {row.iterations:,} iterations", runs)
    _add_means(cells, table)
    return Collection(cells, tuple(more[name] for name in sorted(more)), tuple(notes))


def _each_once(folders: Sequence[Path]) -> list[Path]:
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UserError(f"there is no folder {', '.join(missing)}: give run folders, as default_root_dir names them")
    return list({folder.resolve(): folder for folder in reversed(folders)}.values())[::-1]


def _benchmark_of(run: Run, table: PaperTable) -> Benchmark:
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


def _start_of(run: Run, table: PaperTable) -> Initialisation:
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


def _twice(first: Run, second: Run) -> str:
    different = "; ".join(_differences("", [first, second])) or "their settings are the same"
    return (
        f"{first.folder} and {second.folder} are runs of the same benchmark, initialisation, iterations and seed "
        f"{second.seed} ({different.removeprefix(': ')}): give one of them"
    )


def _differences(where: str, runs: Sequence[Run]) -> list[str]:
    """Settings in which runs differ, with the values and how many runs have each."""
    notes = []
    for key in sorted({key for run in runs for key in run.settings}):
        values = [run.settings.get(key, "none") for run in runs]
        if len(set(values)) > 1:
            counts = ", ".join(f"{value} ({values.count(value)})" for value in sorted(set(values)))
            notes.append(f"{where}: runs differ in {key}: {counts}")
    return notes


def _add_means(cells: dict[Row, dict[str, Cell]], table: PaperTable) -> None:
    """Cells of benchmarks that are means of others, over the seeds that all parts have."""
    for benchmark in table.benchmarks.values():
        for row in {
            Row(benchmark.name, row.iterations, row.encoder) for row in cells if row.benchmark in benchmark.parts
        }:
            parts = [cells.get(Row(part, row.iterations, row.encoder), {}) for part in benchmark.parts]
            for name in _common(parts):
                columns = [part[name].scores for part in parts]
                scores = {seed: sum(column[seed] for column in columns) / len(columns) for seed in _common(columns)}
                if scores:
                    cells.setdefault(row, {})[name] = Cell(scores)


def _common(mappings: Sequence[Mapping[Key, Any]]) -> list[Key]:
    return [key for key in mappings[0] if all(key in each for each in mappings)]
