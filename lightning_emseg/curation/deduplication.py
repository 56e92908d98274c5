"""Near-duplicates of a tile set, within sources and across all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.tile_set import SourceTiles, TileSet
from lightning_emseg.curation.correlation import correlation, fingerprint
from lightning_emseg.curation.decisions import write_decisions
from lightning_emseg.curation.exemplars import Choice, choose_exemplars
from lightning_emseg.curation.hashing import hashes_of
from lightning_emseg.curation.near_pairs import Indices

Look = Literal["across", "all", "none"]
COLUMNS = ("exemplar_source", "exemplar_tile", "distance", "correlation")


@dataclass(frozen=True)
class Rule:
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
    choice: Choice
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
    folder: TileSet, rule: Rule, workers: int, progress: Callable[[int], object] = lambda tiles: None
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


def _record(found: Deduplication, owner: Indices, rule: Rule) -> dict[str, object]:
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
        """See :data:`lightning_emseg.curation.exemplars.SameAs`."""
        values = np.full(len(others), np.nan, np.float32)
        if self._look == "none":
            return values
        seen = np.ones(len(others), np.bool_) if self._look == "all" else self._owner[others] != self._owner[tile]
        own = self._fingerprint(tile) if seen.any() else None
        for index in np.flatnonzero(seen):
            assert own is not None
            values[index] = correlation(own, self._fingerprint(int(others[index])))
        return values
