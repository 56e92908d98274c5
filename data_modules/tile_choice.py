"""Which tiles of a set are trained on, and which are held out to judge the features by."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import SourceTiles

TileNumbers = NDArray[np.int64]
"""``(N, 2)``: number of the source in the set, and of the tile in the source."""
Labels = tuple[NDArray[np.int64], ...]
"""Number of the label of every tile, an array a source; −1 where a tile has none."""


@dataclass(frozen=True)
class Division:
    """Tiles by what they are for; no tile is in two of them.

    Attributes:
        train: Trained on, whatever their labels.
        fit: Held out; a probe learns from them.
        score: Held out; a probe is scored on them.
    """

    train: TileNumbers
    fit: TileNumbers
    score: TileNumbers


def kept_tiles(sources: Sequence[SourceTiles], tables: Sequence[str | os.PathLike[str]]) -> TileNumbers:
    """Tiles that every table kept, in the order of the set; all where there is no table.

    Args:
        sources: Of the set, in its order.
        tables: Of ``emseg curate``: columns ``source``, ``tile`` and ``kept``, 1 for kept; a row a tile.

    Raises:
        UserError: if a table cannot be read, is of other tiles, or nothing is left.
    """
    kept = [np.ones(len(source), np.bool_) for source in sources]
    for table in map(Path, tables):
        rows = 0
        for source, tile, row in _rows(table, sources, "kept"):
            kept[source][tile] &= row["kept"] == "1"
            rows += 1
        if rows != sum(map(len, sources)):
            raise UserError(
                f"{table} has {rows} tiles, but the set has {sum(map(len, sources))}: it has changed since, make the "
                "table again"
            )
    chosen = [(number, tile) for number, marks in enumerate(kept) for tile in np.flatnonzero(marks)]
    if not chosen:
        raise UserError(f"no tile is left by {', '.join(map(str, tables)) or 'the set'}: choose other tables")
    return np.array(chosen, np.int64)


def source_labels(sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels, and the name of its source as the label of every tile."""
    names = [source.source.name for source in sources]
    return names, tuple(np.full(len(source), number, np.int64) for number, source in enumerate(sources))


def read_labels(path: str | os.PathLike[str], sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels in the order of the alphabet, and the labels of a table.

    Args:
        path: Table with columns ``source``, ``tile`` and ``label``; tiles without a row have no label.
        sources: Of the set, in its order.

    Raises:
        UserError: if the table cannot be read, or is of other tiles.
    """
    found = [(source, tile, row["label"]) for source, tile, row in _rows(Path(path), sources, "label")]
    names = sorted({label for _, _, label in found})
    labels = tuple(np.full(len(source), -1, np.int64) for source in sources)
    for source, tile, label in found:
        labels[source][tile] = names.index(label)
    return names, labels


def divide(tiles: TileNumbers, labels: Labels, share: float, random: np.random.Generator) -> Division:
    """Hold out the same share of the tiles of every label, and use every other one of them to fit and to score.

    Args:
        tiles: Those that may be used.
        labels: Of all tiles. Labels with fewer than two tiles to hold out are not judged by.
        share: Of the labelled tiles to hold out, below 1.
        random: Draws which.
    """
    of_tiles = np.array([labels[source][tile] for source, tile in tiles], np.int64)
    train = np.ones(len(tiles), np.bool_)
    parts: tuple[list[int], list[int]] = ([], [])
    for label in range(max(of_tiles, default=-1) + 1):
        places = random.permutation(np.flatnonzero(of_tiles == label))
        held_out = places[: round(share * len(places))]
        if len(held_out) < 2:
            continue
        train[held_out] = False
        for part, chosen in zip(parts, (held_out[::2], held_out[1::2]), strict=True):
            part += chosen.tolist()
    fit, score = (tiles[sorted(part)] for part in parts)
    return Division(tiles[train], fit, score)


def _rows(path: Path, sources: Sequence[SourceTiles], column: str) -> Iterator[tuple[int, int, Mapping[str, str]]]:
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
