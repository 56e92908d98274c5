"""What a table of transfer benchmarks is made of: how runs are recognised, and what the paper prints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_modules.errors import UserError

Part = TypeVar("Part")


@dataclass(frozen=True)
class Term:
    """A part of a run's score: the mean of a column over mosaics.

    Attributes:
        column: Of the score files; ``{label}`` stands for the run's label.
        mosaics: Pattern of the names of the mosaics that are meant, without their split.
    """

    column: str
    mosaics: str = "*"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, recognised by the data that a run was trained on.

    Attributes:
        name: In the file of rows.
        title: In tables.
        store: Pattern of the store's name, without folders and ending.
        label: Pattern of the label.
        score: Terms, whose mean is the score of a run; none for ``mean_iou`` if a run has it, or else the IoU at 0.5.
        parts: Names of benchmarks instead, whose mean by seed this one is; defined before it.
    """

    name: str
    title: str
    store: str = ""
    label: str = "*"
    score: tuple[Term, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Initialisation:
    """What an encoder starts from, recognised by what a run's configuration says.

    Attributes:
        name: In the file of rows.
        title: In tables.
        weights: Pattern of the file's name; ``imagenet`` and the like for a name of smp's, ``None`` for random weights.
        frozen: Whether the encoder keeps them.
    """

    name: str
    title: str
    weights: str | None
    frozen: bool


@dataclass(frozen=True)
class PaperRow:
    """A row as the paper prints it.

    Attributes:
        benchmark: Its name.
        iterations: Training steps.
        paper: IoU by initialisation, where it prints one.
        published: IoU that the benchmark's authors report, if the paper quotes one.
    """

    benchmark: str
    iterations: int
    paper: Mapping[str, float]
    published: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: What it is of.
        runs: Number of runs that a value is the mean of.
        columns: Initialisations, in order.
        rows: In order.
        benchmarks: All that runs can belong to, by name.
    """

    title: str
    runs: int
    columns: tuple[Initialisation, ...]
    rows: tuple[PaperRow, ...]
    benchmarks: Mapping[str, Benchmark]


def read_table(path: Path, name: str) -> PaperTable:
    """Read one of the tables of a file.

    Raises:
        UserError: if the file cannot be read, has no such table, or names something that it does not define.
    """
    content = _mapping(path)
    tables = content["tables"]
    if name not in tables:
        raise UserError(f"{path} has no table {name!r}; it has {', '.join(map(str, tables))}")
    table = tables[name]
    benchmarks = [_benchmark(path, each) for each in content["benchmarks"]]
    try:
        columns = tuple(_made(path, Initialisation, each) for each in table["columns"])
        rows = tuple(_made(path, PaperRow, each) for each in table["rows"])
        found = PaperTable(
            str(table["title"]), int(table["runs"]), columns, rows, {each.name: each for each in benchmarks}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {name} needs title, runs, columns and rows ({error!r})") from None
    _check_names(path, found, [each.name for each in benchmarks])
    return found


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as the rows of transfer tables ({error})") from None
    if not isinstance(content, dict) or set(content) != {"benchmarks", "tables"}:
        raise UserError(f"{path} has to have the keys benchmarks (a list) and tables (by name)")
    if not isinstance(content["benchmarks"], list) or not isinstance(content["tables"], dict):
        raise UserError(f"{path} has to have the keys benchmarks (a list) and tables (by name)")
    return content


def _benchmark(path: Path, given: Any) -> Benchmark:
    made = _made(path, Benchmark, given)
    if bool(made.store) == bool(made.parts):
        raise UserError(f"{path}: benchmark {made.name} needs either a store, by which runs are recognised, or parts")
    terms = tuple(_made(path, Term, each) for each in made.score)
    return Benchmark(made.name, made.title, made.store, made.label, terms, tuple(made.parts))


def _made(path: Path, kind: Callable[..., Part], given: Any) -> Part:
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, dict) or set(given) - set(known):
        raise UserError(f"{path}: {given} should be a mapping with some of the keys {', '.join(known)}")
    try:
        return kind(**given)
    except TypeError as error:
        raise UserError(f"{path}: {given} lacks something ({error})") from None


def _check_names(path: Path, table: PaperTable, benchmarks: Sequence[str]) -> None:
    columns = [each.name for each in table.columns]
    rows = [row.benchmark for row in table.rows]
    for names in (columns, rows, benchmarks):
        if twice := sorted({each for each in names if names.count(each) > 1}):
            raise UserError(f"{path} names {', '.join(twice)} twice")
    parts = [part for each in table.benchmarks.values() for part in each.parts]
    if unknown := sorted({*rows, *parts} - set(benchmarks)):
        raise UserError(f"{path}: there are no benchmarks {', '.join(unknown)}")
    if unknown := sorted({name for row in table.rows for name in row.paper} - set(columns)):
        raise UserError(f"{path}: there are no columns {', '.join(unknown)}")
