"""Rows of the table, and the results that were collected for them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from data_modules.errors import UserError

_KEYS = ("experiment", "data", "paper", "how")


@dataclass(frozen=True)
class Row:
    """A shipped experiment.

    Attributes:
        experiment: Its file below ``experiments/``.
        data: What it is trained on.
        paper: F1 as the paper prints it; empty where it prints none.
        how: What was run here.
    """

    experiment: str
    data: str
    paper: str = ""
    how: str = ""


@dataclass(frozen=True)
class Score:
    """Mean over mosaics, its standard error (``None`` for one mosaic), and their number."""

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
        versions: Of the packages that it was measured with.
        commit: Of the working copy; empty outside of one.
    """

    scores: Mapping[str, Score]
    threshold: float
    criterion: str
    versions: Mapping[str, str]
    commit: str


def read_rows(path: Path) -> list[Row]:
    """Read the rows.

    Raises:
        UserError: if the file is missing, no list of rows, or names an experiment twice.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as the rows of a table ({error})") from None
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise UserError(f"{path} has to be a list of rows with the keys {', '.join(_KEYS)}")
    for each in content:
        if unknown := sorted(set(each) - set(_KEYS)):
            raise UserError(f"{path}: unknown keys {unknown} of {each.get('experiment')}; there are {', '.join(_KEYS)}")
        if not {"experiment", "data"} <= set(each):
            raise UserError(f"{path}: a row needs experiment and data, this one has {each}")
    rows = [Row(**{key: str(value) for key, value in each.items()}) for each in content]
    names = [row.experiment for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} names {', '.join(twice)} twice")
    return rows


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
