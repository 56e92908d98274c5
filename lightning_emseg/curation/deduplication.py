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


@dataclass(frozen=True)
class Neighbours:
    """Which hashes are near which, both ways, as a compressed sparse table.

    Attributes:
        starts: ``int64 (N + 1,)``.
        indices: ``int32 (2 P,)``; neighbours of hash ``i`` are ``indices[starts[i]:starts[i + 1]]``.
        distances: ``uint8 (2 P,)`` in bits.
    """

    starts: Indices
    indices: NDArray[np.int32]
    distances: NDArray[np.uint8]

    @classmethod
    def of(cls, pairs: Iterable[Pairs], number: int) -> "Neighbours":
        """Of ``number`` hashes."""
        pieces = [(p.first.astype(np.int32), p.second.astype(np.int32), p.distance) for p in pairs]
        first, second, distance = (
            np.concatenate([np.zeros(0, kind), *(piece[part] for piece in pieces)])
            for part, kind in enumerate((np.int32, np.int32, np.uint8))
        )
        ends = np.concatenate([first, second])
        order = np.argsort(ends, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=number))])
        return cls(starts, np.concatenate([second, first])[order], np.concatenate([distance, distance])[order])


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
        same_as: Looks at pixels.
        least: Correlation from which tiles are the same.
        seed: Of the order.
        workers: Threads.

    Returns:
        What became of each tile.
    """
    distinct, which = np.unique(hashes, return_inverse=True)
    near = Neighbours.of(near_pairs(distinct, most, workers), len(distinct))
    by_hash = np.argsort(which, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(distinct)))])
    alone = (np.diff(starts) == 1) & (np.diff(near.starts) == 0)
    exemplar = np.where(alone[which], np.arange(len(hashes)), -1)
    distance = np.zeros(len(hashes), np.uint8)
    correlation = np.full(len(hashes), np.nan, np.float32)
    refused = 0
    for tile in np.random.default_rng(seed).permutation(len(hashes)):
        if exemplar[tile] >= 0:
            continue
        exemplar[tile] = tile
        own = int(which[tile])
        rows = slice(near.starts[own], near.starts[own + 1])
        groups = [own, *near.indices[rows]]
        members = [by_hash[starts[group] : starts[group + 1]] for group in groups]
        bits = np.repeat(np.concatenate([[0], near.distances[rows]]), [len(each) for each in members])
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
    """When two tiles are the same.

    Attributes:
        distance: Greatest number of differing bits of their hashes; 11 is the "< 12" of Conrad and Narayan (2021).
        look: Whether pixels are compared ``across`` sources (within one, a near hash is enough, as in the paper), for
            ``all`` pairs or for ``none``.
        correlation: Least normalised correlation of two tiles of 56 × 56 px that are the same.
        seed: Of the order in which exemplars are chosen.
    """

    distance: int = 11
    look: Look = "across"
    correlation: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class Deduplication:
    """What a run found.

    Attributes:
        sources: Of the set.
        choice: Over all tiles, source by source.
        ends: ``int64 (sources,)``: running number of the tile after each source's last.
    """

    sources: Sequence[SourceTiles]
    choice: Exemplars
    ends: Indices

    def place(self, tile: int) -> tuple[int, int]:
        """Index of the source of a tile, and of the tile in it."""
        source = int(np.searchsorted(self.ends, tile, side="right"))
        return source, tile - int(self.ends[source] - len(self.sources[source]))

    def rows(self) -> Iterator[tuple[str | int, ...]]:
        """Of the table: source, tile, kept, reason, and what it is a duplicate of."""
        for tile, exemplar in enumerate(self.choice.exemplar.tolist()):
            source, index = self.place(tile)
            name = self.sources[source].source.name
            if exemplar == tile:
                yield name, index, 1, "exemplar", "", "", "", ""
                continue
            other, other_index = self.place(exemplar)
            reason = "near duplicate in its source" if other == source else "near duplicate in another source"
            value = float(self.choice.correlation[tile])
            looked = "" if np.isnan(value) else f"{value:.4f}"
            of = self.sources[other].source.name
            yield name, index, 0, reason, of, other_index, int(self.choice.distance[tile]), looked


def deduplicate(
    folder: TileSet, rule: DuplicateRule, workers: int, progress: Callable[[int], object] = lambda tiles: None
) -> Deduplication:
    """Find near-duplicates and write ``dedup.csv`` and ``dedup.json`` into the set; nothing is deleted.

    Args:
        folder: The tile set.
        rule: When tiles are the same.
        workers: Threads.
        progress: Told how many tiles have been hashed.

    Raises:
        UserError: if a tile is damaged or missing.
    """
    sources = folder.sources()
    hashes = [hashes_of(folder, source, workers, progress) for source in sources]
    ends = np.cumsum([len(source) for source in sources])
    owner = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
    looking = _Pixels(sources, ends, owner, rule.look)
    choice = choose_exemplars(
        np.concatenate([np.zeros(0, np.uint64), *hashes]), rule.distance, looking, rule.correlation, rule.seed, workers
    )
    found = Deduplication(sources, choice, ends)
    write_decisions(folder, "dedup", COLUMNS, found.rows(), _record(found, owner, rule))
    return found


def _record(found: Deduplication, owner: Indices, rule: DuplicateRule) -> dict[str, object]:
    kept = np.bincount(owner[found.choice.kept], minlength=len(found.sources))
    removed = ~found.choice.kept
    across = int(np.count_nonzero(owner[removed] != owner[found.choice.exemplar[removed]]))
    return {
        "rule": {**vars(rule)},
        "tiles": len(owner),
        "kept": int(kept.sum()),
        "removed_across_sources": across,
        "kept_because_pixels_differ": found.choice.refused,
        "sources": {
            each.source.name: {"tiles": len(each), "kept": int(number)}
            for each, number in zip(found.sources, kept, strict=True)
        },
    }


class _Pixels:
    """Correlates a tile with others; those of its own source only if all are to be looked at."""

    def __init__(self, sources: Sequence[SourceTiles], ends: Indices, owner: Indices, look: Look) -> None:
        self._sources, self._ends, self._owner, self._look = sources, ends, owner, look
        # 12 KiB each: exemplars of one place are visited one after the other only by chance.
        self._fingerprint = lru_cache(maxsize=4096)(self._read)

    def _read(self, tile: int) -> NDArray[np.float32]:
        source = int(self._owner[tile])
        return fingerprint(self._sources[source].tile(tile - int(self._ends[source] - len(self._sources[source]))))

    def __call__(self, tile: int, others: Indices) -> NDArray[np.float32]:
        """See :data:`lightning_emseg.curation.deduplication.SameAs`."""
        values = np.full(len(others), np.nan, np.float32)
        if self._look == "none":
            return values
        seen = np.ones(len(others), np.bool_) if self._look == "all" else self._owner[others] != self._owner[tile]
        own = self._fingerprint(tile) if seen.any() else None
        for index in np.flatnonzero(seen):
            assert own is not None
            values[index] = correlate(own, self._fingerprint(int(others[index])))
        return values
