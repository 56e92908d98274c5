"""Hashes of all tiles of a set, kept beside them, so that an interrupted run goes on where it stopped."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data_modules.tile_set import SourceTiles, TileSet
from lightning_emseg.curation.difference_hash import difference_hash
from lightning_emseg.curation.near_pairs import Hashes


def hashes_of(
    folder: TileSet, source: SourceTiles, workers: int, progress: Callable[[int], object] = lambda tiles: None
) -> Hashes:
    """Difference hashes of a source, ``uint64 (N,)``; read from ``hashes/<source>.npz`` where they are known.

    Args:
        folder: The tile set.
        source: One of its sources.
        workers: Threads.
        progress: Told how many tiles are done.

    Raises:
        UserError: if a tile is damaged or missing.
    """
    path = folder.path / "hashes" / f"{source.source.name}.npz"
    known = _known(path, source)
    if known is not None:
        progress(len(source))
        return known
    found = np.zeros(len(source), np.uint64)
    sizes = source.positions[:, 4:6]
    with ThreadPoolExecutor(workers) as pool:
        for start, tiles in source.batches():
            parts = (tile[:height, :width] for tile, (height, width) in zip(tiles, sizes[start:], strict=False))
            found[start : start + len(tiles)] = list(pool.map(difference_hash, parts))
            progress(len(tiles))
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{path.name}")
    with part.open("wb") as file:
        np.savez(file, hashes=found, stamp=np.array(source.array.stamp))
    part.replace(path)
    return found


def _known(path: Path, source: SourceTiles) -> Hashes | None:
    """Unless they are of other tiles."""
    if not path.is_file():
        return None
    with np.load(path) as stored:
        hashes: Hashes = stored["hashes"]
        return hashes if len(hashes) == len(source) and str(stored["stamp"]) == source.array.stamp else None
