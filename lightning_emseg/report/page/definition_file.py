"""Image definition criteria, from ``quality.csv`` of ``emseg data quality``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_emseg.report.page.reading import number, records

FILE = "quality.csv"
_PER_PIXEL, _RATIO = "_per_pixel", "_ratio"


@dataclass(frozen=True)
class Level:
    """Definition of one mosaic at one resolution.

    Attributes:
        mosaic: ``<split>/<sample>``.
        level: ``original``, ``1/<factor>`` or ``<size> px``.
        size: Height and width in px.
        per_pixel: Criteria as means over pixels.
        ratio: To the original's.
    """

    mosaic: str
    level: str
    size: str
    per_pixel: Mapping[str, float]
    ratio: Mapping[str, float]


@dataclass(frozen=True)
class DefinitionTable:
    """Definition of the mosaics of a store.

    Attributes:
        name: Of the folder.
        filter: With which smaller levels were made.
        criteria: Names.
        levels: A row a mosaic and level.
    """

    name: str
    filter: str
    criteria: tuple[str, ...]
    levels: tuple[Level, ...]


def read_definition(path: Path) -> DefinitionTable:
    """Read a ``quality.csv``.

    Raises:
        ValueError: if it is empty or a value is no number.
        KeyError: if a column is missing.
    """
    rows = records(path)
    if not rows:
        raise ValueError("it has no rows")
    criteria = tuple(column.removesuffix(_PER_PIXEL) for column in rows[0] if column.endswith(_PER_PIXEL))
    levels = tuple(
        Level(
            row["mosaic"],
            row["level"],
            f"{row['height_px']} × {row['width_px']}",
            {name: number(row.get(name + _PER_PIXEL)) for name in criteria},
            {name: number(row.get(name + _RATIO)) for name in criteria},
        )
        for row in rows
    )
    return DefinitionTable(path.resolve().parent.name, rows[0]["filter"], criteria, levels)
