"""The table that a curation step leaves in a tile set: one row a tile, with what was decided and why."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import SourceTiles, TileSet

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


def read_kept(folder: TileSet, sources: Sequence[SourceTiles], step: str) -> list[NDArray[np.bool_]]:
    """Which tiles of each source a step kept; all of them where it was not run.

    Raises:
        UserError: if the table is of other sources or tiles than the set has now.
    """
    kept = [np.ones(len(source), np.bool_) for source in sources]
    table = folder.path / f"{step}.csv"
    if not table.is_file():
        return kept
    number = {source.source.name: index for index, source in enumerate(sources)}
    rows = 0
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            index, tile = number.get(row["source"], -1), int(row["tile"])
            if index < 0 or tile >= len(kept[index]):
                raise UserError(
                    f"{table} knows tile {tile} of {row['source']}, which {folder.path} has not: {_again(step)}"
                )
            kept[index][tile] = row["kept"] == "1"
            rows += 1
    if rows != sum(map(len, sources)):
        raise UserError(f"{table} has {rows} tiles, but {folder.path} has {sum(map(len, sources))}: {_again(step)}")
    return kept


def _again(step: str) -> str:
    return f"the set has changed since, run `emseg curate {step}` again"
