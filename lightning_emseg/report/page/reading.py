"""Reading files of a run of which any may be missing or damaged: a page says so, it does not fail."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

Read = TypeVar("Read")
Record = dict[str, str]
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, csv.Error, yaml.YAMLError)


def attempt(read: Callable[[Path], Read], path: Path, notes: list[str]) -> Read | None:
    """What ``read`` makes of a file, or ``None`` where it does not exist or is damaged.

    Args:
        read: Raises one of the usual errors when it meets something unexpected.
        path: Of the file.
        notes: Gets a sentence that names the file, where it exists and cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return read(path)
    except _DAMAGE as error:
        notes.append(f"{path} cannot be read and is left out: {type(error).__name__}: {error}")
        return None


def json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ValueError: if it is no JSON or something else.
    """
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {type(found).__name__}")
    return found


def records(path: Path) -> list[Record]:
    """Rows of a CSV file by column name; a row that was cut off lacks its last columns.

    Raises:
        ValueError: if it is not text.
    """
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(file)]


def number(value: object) -> float:
    """A number of a JSON or CSV file; NaN where there is none.

    >>> number("0.5"), number(None)
    (0.5, nan)

    Raises:
        ValueError: if it is a text that is no number.
    """
    if value is None or value == "":
        return float("nan")
    if isinstance(value, int | float | str):
        return float(value)
    raise ValueError(f"expected a number, found {value!r}")


def numbers(values: object) -> tuple[float, ...]:
    """Numbers of a JSON list.

    Raises:
        ValueError: if it is no list of numbers.
    """
    if not isinstance(values, list):
        raise ValueError(f"expected a list of numbers, found {type(values).__name__}")
    return tuple(map(number, values))
