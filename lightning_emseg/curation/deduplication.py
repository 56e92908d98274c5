"""Near-duplicates of a tile set, and the exemplar of each group that is kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.tile_set import SourceTiles, TileSet, write_decisions
from lightning_emseg.curation.hashing import Hashes, Indices, Pairs, hashes_of, near_pairs

FINGERPRINT_PX = 56
"""Of the shrunken tiles that are correlated, in px: noise of the detector is averaged away, cells are not."""


def fingerprint(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A tile shrunk to 56 × 56 px, without mean and of norm 1; zeros where it is constant.

    Args:
        tile: ``uint8 (Y, X)``.

    Returns:
        ``float32 (3136,)``.
    """
    small = Image.fromarray(tile).convert("F").resize((FINGERPRINT_PX, FINGERPRINT_PX), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean(dtype=np.float64).astype(np.float32)
    norm = float(np.linalg.norm(values))
    # Half a grey level of rounding is no picture.
    return values / np.float32(norm) if norm > 1e-3 * FINGERPRINT_PX else np.zeros_like(values)


def correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Normalised cross-correlation of two fingerprints, −1 to 1; 1 for two constant tiles, 0 for one."""
    if not one.any() and not other.any():
        return 1.0
    return float(np.dot(one, other))


def find_neighbours(pairs: Iterable[Pairs], number: int) -> tuple[Indices, NDArray[np.int32], NDArray[np.uint8]]:
    """Arrange which hashes are near which, both ways, as a compressed sparse table.

    Args:
        pairs: Pairs of near hashes, each once.
        number: Number of hashes.

    Returns:
        Starts ``int64 (N + 1,)``, indices ``int32 (2 P,)`` (those of the neighbours of hash ``i`` are
        ``indices[starts[i]:starts[i + 1]]``), and their distances ``uint8 (2 P,)`` in bits.
    """
    pieces = [(p.first.astype(np.int32), p.second.astype(np.int32), p.distance) for p in pairs]
    first, second, distance = (
        np.concatenate([np.zeros(0, kind), *(piece[part] for piece in pieces)])
        for part, kind in enumerate((np.int32, np.int32, np.uint8))
    )
    ends = np.concatenate([first, second])
    order = np.argsort(ends, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=number))])
    return starts, np.concatenate([second, first])[order], np.concatenate([distance, distance])[order]


@dataclass(frozen=True)
class Exemplars:
    """What became of each tile.

    Attributes:
        exemplar: ``int64 (N,)``: the kept tile that stands for it; itself where it is kept.
        distance: ``uint8 (N,)``: bits between the two hashes; 0 where it is kept.
        correlation: ``float32 (N,)``: of the two tiles' pixels; NaN where it was not looked at.
        refused: How many candidates were not removed because their pixels differ.
    """

    exemplar: Indices
    distance: NDArray[np.uint8]
    correlation: NDArray[np.float32]
    refused: int

    @property
    def kept(self) -> NDArray[np.bool_]:
        """``bool (N,)``."""
        return np.asarray(self.exemplar == np.arange(len(self.exemplar)))


SameAs = Callable[[int, Indices], NDArray[np.float32]]
"""Correlation of a tile with others; NaN for those that need no look at the pixels."""


def choose_exemplars(
    hashes: Hashes, most: int, same_as: SameAs, least: float, seed: int = 0, workers: int = 2
) -> Exemplars:
    """Keep one tile of each group of near-duplicates.

    Tiles are visited in a random order. One that is still there becomes an exemplar, and all others whose hash is at
    most ``most`` bits away from *its* hash, and whose pixels agree with *its* pixels, are removed: a group is what is
    near its exemplar, so a removed tile always has its likeness in the set. (The transitive closure would chain through
    a volume, section by section, and keep one tile of two that show different places.)

    Args:
        hashes: ``uint64 (N,)``.
        most: Greatest distance in bits; 11 for Conrad and Narayan's "< 12".
        same_as: Function that compares pixels.
        least: Correlation from which tiles are the same.
        seed: Random seed of the order.
        workers: Number of threads.

    Returns:
        What became of each tile.
    """
    distinct, which = np.unique(hashes, return_inverse=True)
    near_starts, near_hashes, near_bits = find_neighbours(near_pairs(distinct, most, workers), len(distinct))
    by_hash = np.argsort(which, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(distinct)))])
    alone = (np.diff(starts) == 1) & (np.diff(near_starts) == 0)
    exemplar = np.where(alone[which], np.arange(len(hashes)), -1)
    distance = np.zeros(len(hashes), np.uint8)
    correlation = np.full(len(hashes), np.nan, np.float32)
    refused = 0
    for tile in np.random.default_rng(seed).permutation(len(hashes)):
        if exemplar[tile] >= 0:
            continue
        exemplar[tile] = tile
        own = int(which[tile])
        rows = slice(near_starts[own], near_starts[own + 1])
        groups = [own, *near_hashes[rows]]
        members = [by_hash[starts[group] : starts[group + 1]] for group in groups]
        bits = np.repeat(np.concatenate([[0], near_bits[rows]]), [len(each) for each in members])
        others = np.concatenate(members)
        left = exemplar[others] < 0
        others, bits = others[left], bits[left]
        if not len(others):
            continue
        values = same_as(int(tile), others)
        same = np.isnan(values) | (values >= least)
        refused += int(len(same) - np.count_nonzero(same))
        exemplar[others[same]] = tile
        distance[others[same]] = bits[same]
        correlation[others[same]] = values[same]
    return Exemplars(exemplar, distance, correlation, refused)


Look = Literal["across", "all", "none"]
COLUMNS = ("exemplar_source", "exemplar_tile", "distance", "correlation")


@dataclass(frozen=True)
class DuplicateRule:
    """Rule by which two tiles are the same.

    Attributes:
        distance: Greatest number of differing bits of their hashes; 11 is the "< 12" of Conrad and Narayan (2021).
        look: Pairs whose pixels are compared: those ``across`` sources (within one, a near hash is enough, as in the
            paper), ``all`` or ``none``.
        correlation: Least normalised correlation of two tiles of 56 × 56 px that are the same.
        seed: Random seed of the order in which exemplars are chosen.
    """

    distance: int = 11
    look: Look = "across"
    correlation: float = 0.6
    seed: int = 0


def deduplicate(
    folder: TileSet, rule: DuplicateRule, workers: int, progress: Callable[[int], object] = lambda tiles: None
) -> Exemplars:
    """Find near-duplicates and write ``dedup.csv`` and ``dedup.json`` into the set; nothing is deleted.

    Args:
        folder: Tile set.
        rule: Rule by which tiles are the same.
        workers: Number of threads.
        progress: Callback with the number of tiles that have been hashed.

    Returns:
        Exemplars over all tiles, source by source.

    Raises:
        UserError: if a tile is damaged or missing.
    """
    sources = folder.sources()
    hashes = [hashes_of(folder, source, workers, progress) for source in sources]
    sizes = [len(source) for source in sources]
    owner = np.repeat(np.arange(len(sources)), sizes)
    number = np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)])
    found = choose_exemplars(
        np.concatenate([np.zeros(0, np.uint64), *hashes]),
        rule.distance,
        _compare_pixels(sources, owner, number, rule.look),
        rule.correlation,
        rule.seed,
        workers,
    )
    kept = np.bincount(owner[found.kept], minlength=len(sources))
    removed = ~found.kept
    record = {
        "rule": {**vars(rule)},
        "tiles": len(owner),
        "kept": int(kept.sum()),
        "removed_across_sources": int(np.count_nonzero(owner[removed] != owner[found.exemplar[removed]])),
        "kept_because_pixels_differ": found.refused,
        "sources": {
            each.key: {"tiles": len(each), "kept": int(left)} for each, left in zip(sources, kept, strict=True)
        },
    }
    write_decisions(folder, "dedup", COLUMNS, _rows(sources, owner, number, found), record)
    return found


def _rows(
    sources: Sequence[SourceTiles], owner: Indices, number: Indices, found: Exemplars
) -> Iterator[tuple[str | int, ...]]:
    """Rows of the table: source, tile, kept, reason, and what it is a duplicate of."""
    for tile, exemplar in enumerate(found.exemplar.tolist()):
        source, other = int(owner[tile]), int(owner[exemplar])
        if exemplar == tile:
            yield sources[source].key, int(number[tile]), 1, "exemplar", "", "", "", ""
            continue
        reason = "near duplicate in its source" if other == source else "near duplicate in another source"
        value = float(found.correlation[tile])
        looked = "" if np.isnan(value) else f"{value:.4f}"
        of = sources[other].key, int(number[exemplar]), int(found.distance[tile]), looked
        yield sources[source].key, int(number[tile]), 0, reason, *of


def _compare_pixels(sources: Sequence[SourceTiles], owner: Indices, number: Indices, look: Look) -> SameAs:
    """Correlate a tile with others; those of its own source only if all are to be looked at."""

    # 12 KiB each: exemplars of one place are visited one after the other only by chance.
    @lru_cache(maxsize=4096)
    def read(tile: int) -> NDArray[np.float32]:
        return fingerprint(sources[int(owner[tile])].tile(int(number[tile])))

    def compare(tile: int, others: Indices) -> NDArray[np.float32]:
        values = np.full(len(others), np.nan, np.float32)
        if look == "none":
            return values
        for index in np.flatnonzero((owner[others] != owner[tile]) | (look == "all")):
            values[index] = correlate(read(tile), read(int(others[index])))
        return values

    return compare
