"""Files of a run, read back as the framework writes them."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_modules.errors import UserError
from lightning_emseg.core.tables import read_csv, read_json, to_number

Read = TypeVar("Read")

_SOURCES = {"train": "training patches", "val_tiles": "validation tiles", "val": "validation, whole mosaics"}
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, csv.Error, yaml.YAMLError)
"""What readers raise when a file is damaged."""


class RunFileError(UserError):
    """File of a run that is missing or damaged."""


@dataclass(frozen=True)
class TrainingCurve:
    """Quantity during a fit.

    Attributes:
        quantity: Name of what was measured, e.g. ``f1``.
        source: Data that it was measured on, e.g. ``validation tiles``; empty where the log does not say.
        step: Optimiser steps, rising.
        value: Values of the same length.
        se: Standard errors over mosaics of the same length, or empty.
    """

    quantity: str
    source: str
    step: tuple[float, ...]
    value: tuple[float, ...]
    se: tuple[float, ...] = ()


def read_file(path: Path, read: Callable[[Path], Read], advice: str) -> Read:
    """Read a file of a run.

    Args:
        path: Path of the file.
        read: Reader, which raises one of the usual errors when it meets something unexpected.
        advice: Action against a missing or damaged file, for the message.

    Raises:
        RunFileError: if the file is missing or damaged.
    """
    try:
        return read(path)
    except FileNotFoundError:
        raise RunFileError(f"{path.parent} has no {path.name}: {advice}") from None
    except DAMAGE as error:
        raise RunFileError(f"{describe_damage(path, error)}: {advice}") from None


def describe_damage(path: Path, error: Exception) -> str:
    """Say that a file is damaged, and how."""
    return f"{path} is damaged ({type(error).__name__}: {error})"


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file, or a YAML file where its name ends so, that holds an object.

    Raises:
        ValueError: if it holds something else.
    """
    if path.suffix == ".json":
        return read_json(path)
    found = yaml.safe_load(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {type(found).__name__}")
    return found


def read_log(path: Path) -> tuple[TrainingCurve, ...]:
    """Read the curves of a ``metrics.csv``: epoch means where the log has both these and values by step.

    Raises:
        ValueError: if a value is no number or a row has no step.
    """
    rows = read_csv(path)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if rows and "step" not in columns:
        raise ValueError("it has no column 'step'")
    points: dict[str, dict[float, float]] = {column: {} for column in columns}
    for row in rows:
        for column, text in row.items():
            if text and not column.startswith(("epoch", "step", "attribution/")):
                points[column][to_number(row.get("step"))] = to_number(text)
    return tuple(_curve(column, points) for column in columns if points[column] and not _is_shadowed(column, columns))


def read_steps(path: Path) -> int:
    """Read how many optimiser steps a ``metrics.csv`` logs.

    Raises:
        ValueError: if a step is no number.
    """
    steps = [to_number(row.get("step")) for row in read_csv(path)]
    return 1 + int(max(filter(math.isfinite, steps), default=-1))


def environment_file(verb: str) -> str:
    """Name the file in which a verb records versions, hardware and the state of the code."""
    return "environment.json" if verb == "fit" else f"environment-{verb}.json"


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings with their full names.

    >>> dict(flatten_settings({"trainer": {"devices": 1, "callbacks": ["a"]}}))
    {'trainer.devices': 1, 'trainer.callbacks': ['a']}
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_shadowed(column: str, columns: Sequence[str]) -> bool:
    stem = column.removesuffix("_step")
    return f"{stem}_epoch" in columns or (column.endswith("_se") and column.removesuffix("_se") in columns)


def _curve(column: str, points: Mapping[str, Mapping[float, float]]) -> TrainingCurve:
    name = column.removesuffix("_epoch")
    prefix, _, rest = name.partition("/")
    source = _SOURCES.get(prefix, "") if rest else ""
    found = {step: value for step, value in sorted(points[column].items()) if math.isfinite(value)}
    errors = points.get(f"{column}_se", {})
    se = tuple(errors.get(step, math.nan) for step in found) if errors else ()
    return TrainingCurve(rest if source else name, source, tuple(found), tuple(found.values()), se)
