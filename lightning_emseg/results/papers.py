"""Printed values of the papers, and the benchmarks that they are of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_modules.errors import UserError

PAPERS = Path(__file__).with_suffix(".yaml")
"""File of all printed values."""
Part = TypeVar("Part")


@dataclass(frozen=True)
class PrintedScores:
    """Scores that a paper prints in a row.

    Attributes:
        who: Network, participant or annotation round.
        images: Images that were scored.
        values: Printed text by column of the score files.
        network: Class in ``lightning_emseg.modules``; empty where there is none.
        experiment: File below ``experiments/`` of the same network and data; empty where there is none.
    """

    who: str
    images: str
    values: Mapping[str, str]
    network: str = ""
    experiment: str = ""

    @property
    def f1(self) -> str:
        """Printed F1 of the foreground."""
        return next(value for column, value in self.values.items() if column.endswith("_f1"))


@dataclass(frozen=True)
class PaperScores:
    """Scores that a paper prints of one data set.

    Attributes:
        source: Paper and year.
        data: Class of the data set in ``data_modules``.
        foreground: Class that the scores are of, as far as the paper says.
        remarks: Sentences to read before comparing.
        rows: Printed rows.
    """

    source: str
    data: str
    foreground: str
    remarks: Sequence[str]
    rows: Sequence[PrintedScores]


@dataclass(frozen=True)
class Term:
    """Part of a run's score: the mean of a column over mosaics.

    Attributes:
        column: Column of the score files; ``{label}`` stands for the run's label.
        mosaics: Pattern of the mosaics' names, without their split.
    """

    column: str
    mosaics: str = "*"


@dataclass(frozen=True)
class Benchmark:
    """Transfer benchmark, recognised by the data that a run was trained on.

    Attributes:
        name: Name in the file.
        title: Name in tables.
        store: Pattern of the store's name, without folders and ending.
        label: Pattern of the label.
        score: Terms, whose mean is the score of a run; none for ``mean_iou`` if a run has it, or else the IoU at 0.5.
        parts: Names of benchmarks instead, defined before it, whose mean by seed this one is.
    """

    name: str
    title: str
    store: str = ""
    label: str = "*"
    score: tuple[Term, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Initialisation:
    """Weights that an encoder starts from, recognised by a run's configuration.

    Attributes:
        name: Name in the file.
        title: Name in tables.
        weights: Pattern of the file's name; ``imagenet`` and the like for a name of smp's, ``None`` for random weights.
        frozen: Whether the encoder keeps them.
    """

    name: str
    title: str
    weights: str | None
    frozen: bool


@dataclass(frozen=True)
class PaperRow:
    """Row of a transfer table.

    Attributes:
        benchmark: Name of the benchmark.
        iterations: Training steps.
        paper: Printed IoU by initialisation.
        published: IoU that the benchmark's authors report, if the paper quotes one.
    """

    benchmark: str
    iterations: int
    paper: Mapping[str, float]
    published: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """Transfer table of a paper.

    Attributes:
        title: Subject and source.
        runs: Number of runs that a value is the mean of.
        columns: Initialisations, in order.
        rows: Printed rows, in order.
        benchmarks: All benchmarks that runs can belong to, by name.
    """

    title: str
    runs: int
    columns: tuple[Initialisation, ...]
    rows: tuple[PaperRow, ...]
    benchmarks: Mapping[str, Benchmark]


@cache
def paper_scores() -> tuple[PaperScores, ...]:
    """Read the printed scores of whole mosaics, by paper and data set."""
    found = yaml.safe_load(PAPERS.read_text())["scores"]
    return tuple(PaperScores(**{**each, "rows": [PrintedScores(**row) for row in each["rows"]]}) for each in found)


def read_paper_table(path: Path, name: str) -> PaperTable:
    """Read a transfer table from a file with ``benchmarks`` and ``tables``, such as :data:`PAPERS`.

    Raises:
        UserError: if the file cannot be read, has no such table, or names something that it does not define.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as transfer tables ({error})") from None
    kinds = (("benchmarks", list), ("tables", dict))
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds):
        raise UserError(f"{path} has to have the keys benchmarks (a list) and tables (by name)")
    if name not in content["tables"]:
        raise UserError(f"{path} has no table {name!r}; it has {', '.join(map(str, content['tables']))}")
    benchmarks = [_benchmark(path, each) for each in content["benchmarks"]]
    table = content["tables"][name]
    try:
        columns = tuple(_build(path, Initialisation, each) for each in table["columns"])
        rows = tuple(_build(path, PaperRow, each) for each in table["rows"])
        by_name = {each.name: each for each in benchmarks}
        found = PaperTable(str(table["title"]), int(table["runs"]), columns, rows, by_name)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {name} needs title, runs, columns and rows ({error!r})") from None
    _check_names(path, found, [each.name for each in benchmarks])
    return found


def _benchmark(path: Path, given: Any) -> Benchmark:
    benchmark = _build(path, Benchmark, given)
    if bool(benchmark.store) == bool(benchmark.parts):
        raise UserError(
            f"{path}: benchmark {benchmark.name} needs either a store, by which runs are recognised, or parts"
        )
    terms = tuple(_build(path, Term, each) for each in benchmark.score)
    return replace(benchmark, score=terms, parts=tuple(benchmark.parts))


def _build(path: Path, kind: Callable[..., Part], given: Any) -> Part:
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
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
    for what, used, known in (
        ("benchmarks", {*rows, *parts}, benchmarks),
        ("columns", {name for row in table.rows for name in row.paper}, columns),
    ):
        if unknown := sorted(used - set(known)):
            raise UserError(f"{path}: there are no {what} {', '.join(unknown)}")
