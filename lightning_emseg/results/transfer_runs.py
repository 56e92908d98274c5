"""Transfer benchmarks of CEM500K (Conrad and Narayan 2021), and how runs of them are recognised."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_modules.errors import UserError
from lightning_emseg.core.tables import mean_se

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


Rows = Mapping[str, Mapping[str, float | None]]
AT_ONE_HALF = "{label}_iou_at_0.5"
_MULTICLASS = "mean_iou"

_NOT_COMPARED = (
    "seed_everything",
    "ckpt_path",
    "checkpoint.",
    "writer.",
    *(f"trainer.{name}" for name in ("default_root_dir", "logger", "callbacks", "enable_", "log_every", "max_steps")),
    *(f"data.init_args.{name}" for name in ("store", "num_workers")),
    *(f"model.init_args.{name}" for name in ("encoder", "weights", "freeze_encoder", "use_norms", "grey_", "metrics")),
)
"""Beginnings of settings in which runs of a row may differ: what the table tells apart, and what changes no result."""


class UnusableError(ValueError):
    """A run that cannot be part of a table, with the reason."""


@dataclass(frozen=True)
class TransferRun:
    """A fit and its test, as its own files describe them.

    Attributes:
        folder: With its files.
        store: Name of the store, without folders and ending.
        label: That was learned.
        encoder: Name of the encoder.
        weights: Name of the file that the encoder started from, or of smp's weights; ``None`` for random ones.
        frozen: Whether it kept them.
        iterations: Training steps.
        seed: Of the run.
        scores: By mosaic and column.
        settings: All others of the configuration, by dotted key; those that are off or not given are left out.
    """

    folder: Path
    store: str
    label: str
    encoder: str
    weights: str | None
    frozen: bool
    iterations: int
    seed: int
    scores: Rows
    settings: Mapping[str, str]

    def score(self, terms: Sequence[Term] = ()) -> float:
        """Mean over terms, each the mean of a column over mosaics.

        Args:
            terms: None for the mean over foreground classes, or where there is one class only, its IoU at a
                probability of 0.5.

        Raises:
            UnusableError: if the run has no such column, or no mosaic of that name.
        """
        if not terms:
            multiclass = any(_MULTICLASS in row for row in self.scores.values())
            terms = (Term(_MULTICLASS if multiclass else AT_ONE_HALF),)
        return sum(self._value(term) for term in terms) / len(terms)

    def _value(self, term: Term) -> float:
        column = term.column.format(label=self.label)
        rows = [row for key, row in self.scores.items() if fnmatchcase(key.partition("/")[2], term.mosaics)]
        if not rows:
            raise UnusableError(f"it has no test mosaic named {term.mosaics}")
        if not any(column in row for row in rows):
            raise UnusableError(f"its scores have no column {column}; test it with the metric that makes it")
        values = [row.get(column) for row in rows]
        found = mean_se([float("nan") if value is None else value for value in values])
        if not found.n:
            raise UnusableError(f"no test mosaic has a number in the column {column}")
        return found.mean


def read_run(folder: Path) -> TransferRun:
    """Read a run folder.

    Raises:
        UnusableError: if the run is not finished, or its files do not say what a table needs.
    """
    config = _config(folder / "config.yaml")
    scores = _scores(folder / "scores-test.json")
    model, data = (_dotted(config.get(part), part) for part in ("model", "data"))
    network, store = model.get("init_args"), data.get("init_args", {}).get("store")
    label = data.get("init_args", {}).get("label", "membrane")
    if not isinstance(network, dict) or not network.get("encoder"):
        raise UnusableError(f"its network, {model.get('class_path')}, has no encoder that could be initialised")
    if network.get("start_from"):
        raise UnusableError("it is the second stage of another run (model.init_args.start_from)")
    if not store:
        raise UnusableError("its config.yaml names no store")
    weights = network.get("weights") or network.get("encoder_weights")
    return TransferRun(
        folder=folder,
        store=_bare(store),
        label=label,
        encoder=str(network["encoder"]),
        weights=Path(weights).name if weights else None,
        frozen=bool(network.get("freeze_encoder")),
        iterations=_iterations(folder, config),
        seed=_seed(config),
        scores=scores["mosaics"],
        settings={**_settings(config), **_tested(folder)},
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UnusableError("it has no config.yaml, as `lightning fit` writes one") from None
    except (OSError, yaml.YAMLError) as error:
        raise UnusableError(f"its config.yaml cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise UnusableError("its config.yaml holds no settings")
    return content


def _scores(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        mosaics = content["mosaics"]
    except FileNotFoundError:
        raise UnusableError("it is not tested yet: run `lightning test` with its config.yaml") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UnusableError(f"its scores-test.json is damaged ({error}): run `lightning test` again") from None
    if not mosaics or content.get("partial"):
        raise UnusableError("its test was cut short: run `lightning test` on whole mosaics")
    return dict(content)


def _dotted(section: Any, name: str) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise UnusableError(f"its config.yaml has no {name}")
    return section


def _bare(store: str) -> str:
    return Path(store.rstrip("/")).name.removesuffix(".zarr")


def _seed(config: Mapping[str, Any]) -> int:
    seed = config.get("seed_everything")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UnusableError("its config.yaml names no seed (seed_everything)")
    return seed


def _iterations(folder: Path, config: Mapping[str, Any]) -> int:
    wanted = int((config.get("trainer") or {}).get("max_steps") or -1)
    done = _steps_logged(folder / "metrics.csv")
    if wanted > 0 and done is not None and done < wanted:
        raise UnusableError(f"its training ended after {done:,} of {wanted:,} steps")
    steps = wanted if wanted > 0 else done
    if steps is None:
        raise UnusableError("nothing says how many steps it trained: neither trainer.max_steps nor a metrics.csv")
    return steps


def _steps_logged(path: Path) -> int | None:
    """Steps of a log, which counts them from 0; none where there is no log, as with another logger."""
    try:
        with path.open(newline="") as file:
            return 1 + max(int(row["step"]) for row in csv.DictReader(file) if row.get("step"))
    except (OSError, ValueError):
        return None


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    found = dict(_flat(config, ""))
    # Both make the same network; they differ in how weights are given.
    model = found.get("model.class_path", "")
    found["model.class_path"] = model.rpartition(".")[2].removesuffix("Transfer")
    return {key: value for key, value in found.items() if not key.startswith(_NOT_COMPARED)}


def _tested(folder: Path) -> dict[str, str]:
    """Which of the run's checkpoints was tested, where the test says so."""
    try:
        checkpoint = _config(folder / "config-test.yaml").get("ckpt_path")
    except UnusableError:
        return {}
    return {"the tested checkpoint": Path(str(checkpoint)).name} if checkpoint else {}


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in _flat(each, f"{name}.{key}" if name else str(key))]
    return [] if value is None or value is False or value == [] else [(name, str(value))]
