"""One tile of each group of near-duplicates is kept: what a group is, and which tile of it stays."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.curation.near_pairs import Hashes, Indices, Pairs, near_pairs


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
class Choice:
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
) -> Choice:
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
    return Choice(exemplar, distance, correlation, refused)
