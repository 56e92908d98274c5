"""``emseg curate dedup``: which tiles are near-duplicates of others."""

import os
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.tile_set import TileSet
from lightning_emseg.curation.deduplication import Look, Rule, deduplicate


def dedup(
    tiles: Path,
    distance: int = 11,
    look: Look = "across",
    correlation: float = 0.6,
    seed: int = 0,
    workers: int | None = None,
) -> str:
    """Find near-duplicates within and across sources; one tile of each group is kept, nothing is deleted.

    All pairs of 64-bit difference hashes are searched exactly. The decision about every tile, with its exemplar, the
    distance and the correlation, goes to ``dedup.csv`` in the set. Hashes are kept, so that a run that was interrupted
    or is repeated with another rule does not make them again.

    Args:
        tiles: The tile set.
        distance: Greatest number of differing bits between a tile and its exemplar, 0–20; Conrad and Narayan (2021)
            have "< 12".
        look: Whether pixels are compared ``across`` sources, where hashes of millions of tiles are near by chance, or
            for ``all`` pairs, or for ``none``.
        correlation: Least correlation of the pixels of duplicates, −1 to 1.
        seed: Of the choice of exemplars.
        workers: Threads; as many as processors by default.

    Raises:
        UserError: if there is no tile set, a tile is damaged, or an argument is out of range.
    """
    if not 0 <= distance <= 20 or not -1 <= correlation <= 1:
        raise UserError(f"--distance {distance} --correlation {correlation}: 0 to 20 bits, and −1 to 1")
    folder = TileSet(tiles)
    number = len(folder)
    threads = workers or len(os.sched_getaffinity(0))
    with tqdm(total=number, desc="hash", unit="tile", disable=None) as bar:
        found = deduplicate(folder, Rule(distance, look, correlation, seed), threads, bar.update)
    kept = int(found.choice.kept.sum())
    differ = found.choice.refused
    return (
        f"{kept:,} of {number:,} tiles kept, {number - kept:,} are near-duplicates; {differ:,} candidates stay because "
        f"their pixels differ: {folder.path / 'dedup.csv'}"
    )
