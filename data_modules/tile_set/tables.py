"""Tables of a tile set's tiles, as the steps of the curation leave them."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set.reader import SourceTiles


def read_kept(sources: Sequence[SourceTiles], tables: Sequence[str | os.PathLike[str]]) -> list[NDArray[np.bool_]]:
    """Which tiles every table kept, ``bool (N,)`` a source; all where there is no table.

    Args:
        sources: Of the set, in its order.
        tables: Of ``emseg curate``: columns ``source``, ``tile`` and ``kept``, 1 for kept; a row a tile.

    Raises:
        UserError: if a table cannot be read, or is of other tiles.
    """
    kept = [np.ones(len(source), np.bool_) for source in sources]
    for table in map(Path, tables):
        rows = 0
        for source, tile, row in read_rows(table, sources, "kept"):
            kept[source][tile] &= row["kept"] == "1"
            rows += 1
        if rows != sum(map(len, sources)):
            raise UserError(
                f"{table} has {rows} tiles, but the set has {sum(map(len, sources))}: it has changed since, make the "
                "table again"
            )
    return kept


def read_rows(path: Path, sources: Sequence[SourceTiles], column: str) -> Iterator[tuple[int, int, Mapping[str, str]]]:
    """Rows of a table, each with the numbers of its source in ``sources`` and of its tile.

    Args:
        path: Table with the columns ``source``, ``tile`` and ``column``.
        sources: Of the set, in its order.
        column: That is looked for beside these two.

    Raises:
        UserError: if the table cannot be read, lacks a column, or is of other tiles.
    """
    numbers = {source.source.name: number for number, source in enumerate(sources)}
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            lacking = {"source", "tile", column} - set(reader.fieldnames or ())
            if lacking:
                raise UserError(f"{path} has no column {', '.join(sorted(lacking))}: give a table of `emseg curate`")
            for row in reader:
                number = numbers.get(row["source"], -1)
                if number < 0 or not row["tile"].isdecimal() or int(row["tile"]) >= len(sources[number]):
                    raise UserError(
                        f"{path}: line {reader.line_num} is of tile {row['tile']} of {row['source']!r}, which the set "
                        "has not: give a table of this set"
                    )
                yield number, int(row["tile"]), row
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a table of tiles: {error}") from error
