"""Which tiles of a set are trained on, and which are held out to judge the features by."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store.layout import is_url
from data_modules.tile_set import SourceTiles, read_kept, read_rows

TileNumbers = NDArray[np.int64]
"""``(N, 2)``: number of the source in the set, and of the tile in the source."""
Labels = tuple[NDArray[np.int64], ...]
"""Number of the label of every tile, an array a source; −1 where a tile has none."""


FOLDER = "folder"
"""Says that tiles are labelled by folder, where the path of a table of labels might stand."""
_DATASET = re.compile(r"(\.h5|\.hdf5|\.hdf):.+", re.IGNORECASE)


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
    kept = read_kept(sources, tables)
    chosen = [(number, tile) for number, marks in enumerate(kept) for tile in np.flatnonzero(marks)]
    if not chosen:
        raise UserError(f"no tile is left by {', '.join(map(str, tables)) or 'the set'}: choose other tables")
    return np.array(chosen, np.int64)


def label_tiles(labels: str | os.PathLike[str] | None, sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels and the labels: by source for ``None``, by folder for ``folder``, or of a table at a path.

    Raises:
        UserError: if the table cannot be read or is of other tiles, or there is one folder only.
    """
    if not labels:
        return source_labels(sources)
    return folder_labels(sources) if labels == FOLDER else read_labels(labels, sources)


def source_labels(sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels, and the name of its source as the label of every tile."""
    names = [source.source.name for source in sources]
    return names, tuple(np.full(len(source), number, np.int64) for number, source in enumerate(sources))


def folder_labels(sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels in the order of the alphabet, and as the label of every tile the folder of its source.

    That is the first folder below the one that was tiled, as ``heart`` of ``raw/heart/2019/a.tif``, and the latter for
    files directly in it. A file or URL that was tiled alone has a label of its own.

    Raises:
        UserError: if all are of one folder.
    """
    folders = [_folder(source.source.file) for source in sources]
    names = sorted(set(folders))
    if len(names) < 2:
        raise UserError(
            f"all sources are of the folder {names[0] if names else ''!r}, which leaves nothing to tell apart: sort "
            "the files into folders and tile them again, or give a table of labels"
        )
    numbers = [names.index(folder) for folder in folders]
    return names, tuple(np.full(len(source), at, np.int64) for source, at in zip(sources, numbers, strict=True))


def _folder(file: str) -> str:
    if is_url(file):
        return file
    parts = PurePosixPath(_DATASET.sub(r"\1", file)).parts
    return parts[1] if len(parts) > 2 else parts[0]


def read_labels(path: str | os.PathLike[str], sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels in the order of the alphabet, and the labels of a table.

    Args:
        path: Table with columns ``source``, ``tile`` and ``label``; tiles without a row have no label.
        sources: Of the set, in its order.

    Raises:
        UserError: if the table cannot be read, or is of other tiles.
    """
    found = [(source, tile, row["label"]) for source, tile, row in read_rows(Path(path), sources, "label")]
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
