"""Rows of the table, and the results that were collected for them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import UserError

_KEYS = ("experiment", "data", "paper", "how")


@dataclass(frozen=True)
class Row:
    """A shipped experiment.

    Attributes:
        experiment: Its file below ``experiments/``.
        data: What it is trained on.
        paper: By column of the score files, the score as a paper prints it.
        how: What was run here.
    """

    experiment: str
    data: str
    paper: Mapping[str, str]
    how: str = ""


@dataclass(frozen=True)
class Definition:
    """What a table has.

    Attributes:
        columns: Heading by column of the score files, in order.
        rows: One a shipped experiment.
    """

    columns: Mapping[str, str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Score:
    """Mean over mosaics, or over several runs, its standard error (``None`` of a single one), and their number."""

    mean: float
    se: float | None
    n: int


@dataclass(frozen=True)
class Result:
    """What was measured for an experiment.

    Attributes:
        scores: By column of the score files, e.g. ``membrane_f1``.
        threshold: Probability from which on a pixel counts as foreground.
        criterion: How the threshold was chosen.
        verb: ``test``, or ``validate`` where nothing was tested.
        versions: Of the packages that it was measured with.
        commit: Of the working copy; empty outside of one.
    """

    scores: Mapping[str, Score]
    threshold: float
    criterion: str
    versions: Mapping[str, str]
    commit: str
    verb: str = "test"


def read_definition(path: Path) -> Definition:
    """Read what a table has.

    Raises:
        UserError: if the file is missing, has no columns or rows, names an experiment twice, or has what a paper prints
            of a column that it does not name.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as the rows of a table ({error})") from None
    columns, rows = (content.get(key) for key in ("columns", "rows")) if isinstance(content, dict) else (None, None)
    if not isinstance(columns, dict) or not columns:
        raise UserError(f"{path} has to have `columns`, a heading for each column of the score files that is shown")
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise UserError(f"{path} has to have `rows`, a list with the keys {', '.join(_KEYS)}")
    headings = {str(column): str(heading) for column, heading in columns.items()}
    found = [_row(path, each, headings) for each in rows]
    names = [row.experiment for row in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} names {', '.join(twice)} twice")
    return Definition(headings, found)


def _row(path: Path, given: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    if unknown := sorted(set(given) - set(_KEYS)):
        raise UserError(f"{path}: unknown keys {unknown} of {given.get('experiment')}; there are {', '.join(_KEYS)}")
    if not {"experiment", "data"} <= set(given):
        raise UserError(f"{path}: a row needs experiment and data, this one has {dict(given)}")
    paper = given.get("paper", {})
    printed = paper if isinstance(paper, dict) else {next(iter(columns)): paper}
    if unknown := sorted(set(printed) - set(columns)):
        raise UserError(f"{path}: `paper` of {given['experiment']} has {unknown}, but columns are {', '.join(columns)}")
    texts = {str(column): str(value) for column, value in printed.items()}
    return Row(str(given["experiment"]), str(given["data"]), texts, str(given.get("how", "")))


def read_results(path: Path) -> dict[str, Result]:
    """Read collected results by experiment; none where there is no file yet.

    Raises:
        UserError: if the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        return {
            name: Result(**{**each, "scores": {key: Score(**score) for key, score in each["scores"].items()}})
            for name, each in content.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and collect the runs again") from None


def write_results(path: Path, results: Mapping[str, Result], order: Sequence[str]) -> None:
    """Write results by experiment, in the order of the table."""
    content = {name: asdict(results[name]) for name in order if name in results}
    path.write_text(json.dumps(content, indent=1) + "\n")
