"""The table that a curation step leaves in a tile set: one row a tile, with what was decided and why."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.tile_set import TileSet

FIRST = ("source", "tile", "kept", "reason")


def write_decisions(
    folder: TileSet, step: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], record: Mapping[str, Any]
) -> Path:
    """Write ``<step>.csv``, and ``<step>.json`` with the settings and counts of the step; both whole or not at all.

    Args:
        folder: The tile set.
        step: ``dedup`` or ``filter``.
        columns: After ``source, tile, kept, reason``.
        rows: One a tile, in the order of sources and tiles.
        record: JSON-ready.

    Returns:
        Path of the table.
    """
    table = folder.path / f"{step}.csv"
    part = table.with_name(f".{table.name}.partial")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FIRST, *columns])
        writer.writerows(rows)
    part.replace(table)
    written = table.with_suffix(".json")
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(written)
    return table
