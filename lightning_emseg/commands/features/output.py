"""What the commands of ``emseg features`` leave: a folder with tables, settings and figures, and a short table."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from lightning_emseg.features.encoder import Encoder

Record = Mapping[str, Any]


def make_folder(out: Path) -> None:
    """Make the folder with all above it.

    Raises:
        UserError: if that is not possible.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error


def write_numbers(
    out: Path, name: str, settings: Record, encoders: Sequence[Encoder], summary: Record, records: Sequence[Record]
) -> str:
    """Write ``<name>.csv`` with all records in full precision, and ``<name>.json`` with settings and summary as well.

    Args:
        out: The folder.
        name: Of the analysis.
        settings: Arguments and constants, JSON-ready.
        encoders: That were compared.
        summary: By encoder, JSON-ready.
        records: At least one, all with the same keys; NaN is left empty, and ``null`` in JSON.

    Returns:
        Paths of both, for the terminal.
    """
    table, description = out / f"{name}.csv", out / f"{name}.json"
    known = [{key: _or_none(value) for key, value in record.items()} for record in records]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, known[0])
        writer.writeheader()
        writer.writerows(known)
    content = {
        "settings": settings,
        "encoders": {each.name: each.record() for each in encoders},
        "summary": {key: {name: _or_none(value) for name, value in row.items()} for key, row in summary.items()},
        "records": known,
    }
    description.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return f"{table}, {description}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def pages(out: Path, name: str, rows: int, most: int) -> list[tuple[Path, slice]]:
    """Files of a figure with many rows, and the rows of each: ``<name>.png``, or ``<name>-1.png``, ….

    >>> [(path.name, rows.start, rows.stop) for path, rows in pages(Path(), "a", 3, 2)]
    [('a-1.png', 0, 2), ('a-2.png', 2, 4)]
    """
    starts = range(0, rows, most)
    numbers = [""] if len(starts) == 1 else [f"-{number + 1}" for number in range(len(starts))]
    return [
        (out / f"{name}{number}.png", slice(start, start + most)) for number, start in zip(numbers, starts, strict=True)
    ]


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
