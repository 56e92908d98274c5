"""Tables of scores: mean ± SE, and CSV, JSON and text files that are written whole or not at all."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MeanSE:
    """Mean and its standard error.

    Attributes:
        mean: Mean of the values that are numbers; NaN without any.
        se: Standard error (ddof 1); ``None`` for fewer than two values or an infinite mean.
        n: Number of values that are numbers.
    """

    mean: float
    se: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.se is None else f" ± {self.se:.4f}")


def mean_se(values: Iterable[float]) -> MeanSE:
    """Compute mean and standard error of all values that are not NaN.

    >>> str(mean_se([0.5, 0.7]))
    '0.6000 ± 0.1000'
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return MeanSE(math.nan, None, 0)
    finite = len(known) > 1 and all(map(math.isfinite, known))
    error = float(np.std(known, ddof=1) / math.sqrt(len(known))) if finite else None
    return MeanSE(float(np.mean(known)), error, len(known))


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all: readers see the earlier file until the new one is complete."""
    part = path.with_name(f".{path.name}.partial")
    part.write_text(text)
    part.replace(path)


def write_csv(
    path: Path, records: Iterable[Mapping[str, object]], columns: Sequence[str] | None = None, append: bool = False
) -> None:
    """Write records as CSV, floating point in full precision and ``None`` as an empty cell.

    Args:
        path: File in a folder that exists; replaced whole or not at all.
        records: One a row; each has a value for every column, and others are left out.
        columns: Columns in this order; those of the first record by default, and no file without any record.
        append: Whether rows are added behind those of an existing file.
    """
    rows = list(records)
    if columns is None and not rows:
        return
    names = list(rows[0] if columns is None else columns)
    append = append and path.is_file()
    target = path if append else path.with_name(f".{path.name}.partial")
    with target.open("a" if append else "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([] if append else [names])
        writer.writerows([row[name] for name in names] for row in rows)
    target.replace(path)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a row of headings.

    Args:
        path: File.

    Returns:
        Cells by column; empty cells, and those that a row lacks because it was cut off, are left out.

    Raises:
        ValueError: if the file is no text.
    """
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name and cell} for row in csv.DictReader(file)]


def json_text(content: object) -> str:
    """Format content as JSON in full precision; NaN and infinity, which JSON does not have, become ``null``.

    >>> json_text([float("nan"), np.int64(3)]).split()
    ['[', 'null,', '3', ']']
    """
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, content: object) -> None:
    """Write :func:`json_text` whole or not at all."""
    write_whole(path, f"{json_text(content)}\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: if it is damaged or holds something else.
    """
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {type(found).__name__}")
    return found


def to_number(value: object) -> float:
    """Convert a value of a JSON or CSV file; NaN where there is none.

    >>> to_number("0.5"), to_number(None)
    (0.5, nan)

    Raises:
        ValueError: if it is a text that is no number.
    """
    if value is None or value == "":
        return math.nan
    if isinstance(value, int | float | str):
        return float(value)
    raise ValueError(f"expected a number, found {value!r}")


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    return None if isinstance(content, float) and not math.isfinite(content) else content


def format_number(value: float) -> str:
    """Format a score for people: four digits behind the point for shares, fewer for counts and lengths.

    >>> format_number(0.5), format_number(1234.5678), format_number(float("nan"))
    ('0.5000', '1234.6', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Align the cells of a table: the first column to the left, all others to the right.

    >>> print(align([["", "f1"], ["a", "0.5"]]))
        f1
    a  0.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)
