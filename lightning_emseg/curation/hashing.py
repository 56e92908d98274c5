"""Difference hashes of tiles, and all pairs of them within a Hamming distance."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.tile_set import SourceTiles, TileSet, save_numbers

SIZE = 8
_WEIGHTS = np.uint64(1) << np.arange(SIZE * SIZE - 1, -1, -1, dtype=np.uint64)


def difference_hash(tile: NDArray[np.uint8]) -> np.uint64:
    """Whether each pixel of the tile, shrunk to 8 × 9, is brighter than the one to its left.

    As in the package imagehash (hash size 8), which Conrad and Narayan (2021) used: Lanczos, rows from the top, the
    first comparison in the highest bit.

    Args:
        tile: ``uint8 (Y, X)``.

    Returns:
        64 bits; 0 for a constant tile.
    """
    small = np.asarray(Image.fromarray(tile).resize((SIZE + 1, SIZE), Image.Resampling.LANCZOS))
    brighter = small[:, 1:] > small[:, :-1]
    return np.uint64(_WEIGHTS[brighter.ravel()].sum(dtype=np.uint64))


BITS = 64
_MOST = 1 << 20
"""Candidates that are looked at together, so that memory is bounded whatever the hashes."""

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of hashes that are near each other, each once, in no particular order.

    Attributes:
        first: ``int64 (P,)``, indices into the hashes.
        second: ``int64 (P,)``, greater than ``first``.
        distance: ``uint8 (P,)``, differing bits.
    """

    first: Indices
    second: Indices
    distance: NDArray[np.uint8]


def near_pairs(hashes: Hashes, most: int, workers: int = 2) -> Iterator[Pairs]:
    """Find every pair of hashes that differ in at most ``most`` bits.

    Multi-index hashing (Norouzi et al., 2012): the 64 bits are cut into ``B`` blocks; two hashes that differ in at most
    ``most`` bits differ in at most ``most // B`` bits of at least one of them. Hashes are sorted by each block in turn,
    and those of every two values of it that are so near are compared. For random hashes the comparisons are a 900th of
    all pairs at a distance of 11; equal hashes should be made one before, as their number of pairs is quadratic.

    Args:
        hashes: ``uint64 (N,)``.
        most: Greatest distance in bits, 0–20.
        workers: Number of threads.

    Yields:
        Pairs, in pieces; together each pair exactly once.

    Raises:
        ValueError: if ``most`` is outside its range.
    """
    if not 0 <= most <= 20:
        raise ValueError(f"a distance of {most} bits is outside 0 to 20")
    blocks = _blocks(most, len(hashes))
    with ThreadPoolExecutor(workers) as pool:
        for number in range(len(blocks)):
            index = _Sorted.by(hashes, blocks[number])
            search = partial(_pairs_of_mask, index, most, blocks[:number])
            for pieces in pool.map(search, _masks(blocks[number])):
                yield from pieces


@dataclass(frozen=True)
class _Block:
    """Some neighbouring bits, and in how many of them two values may differ."""

    shift: int
    bits: int
    most: int

    def values(self, hashes: Hashes) -> NDArray[np.uint32]:
        """``uint32 (N,)``, below 2 ** bits."""
        return ((hashes >> np.uint64(self.shift)) & np.uint64((1 << self.bits) - 1)).astype(np.uint32)


def _blocks(most: int, number: int) -> list[_Block]:
    """The cut that costs least for random hashes; the weights are measured nanoseconds."""

    def cost(blocks: list[_Block]) -> float:
        return sum(
            len(_masks(each)) * ((1 << each.bits) + number * (1 + 7 * number / (1 << each.bits))) for each in blocks
        )

    return min((_cut(most, count) for count in range(3, 9)), key=cost)


def _cut(most: int, count: int) -> list[_Block]:
    edges = [BITS * number // count for number in range(count + 1)]
    # If each block differed in more than its share, the sum would be at least most + 1.
    shares = [(most + 1 + number) // count - 1 for number in range(count)]
    return [
        _Block(low, high - low, share)
        for low, high, share in zip(edges, edges[1:], sorted(shares), strict=False)
        if share >= 0
    ]


def _masks(block: _Block) -> list[int]:
    places = [combinations(range(block.bits), ones) for ones in range(block.most + 1)]
    return [sum(1 << bit for bit in bits) for chosen in places for bits in chosen]


@dataclass(frozen=True)
class _Sorted:
    """Hashes sorted by a block: equal values are neighbours, and near ones are found by their start."""

    block: _Block
    hashes: Hashes
    order: NDArray[np.int32]
    values: NDArray[np.uint32]
    starts: NDArray[np.int32]
    occupied: NDArray[np.bool_]

    @classmethod
    def by(cls, hashes: Hashes, block: _Block) -> "_Sorted":
        values = block.values(hashes)
        order = np.argsort(values, kind="stable").astype(np.int32)
        sizes = np.bincount(values, minlength=1 << block.bits)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        return cls(block, hashes[order], order, values[order], starts, sizes > 0)

    def with_partner(self, mask: int) -> NDArray[np.int32]:
        """Indices of hashes whose value has a partner that differs in ``mask``; of both sides only the smaller."""
        # Axes of two are the bits of the mask, highest first; the others are the bits above, between and below them.
        places = [bit for bit in range(self.block.bits) if mask >> bit & 1][::-1]
        between = [above - below - 1 for above, below in zip([self.block.bits, *places], [*places, -1], strict=True)]
        shape = [2] * (2 * len(between) - 1)
        shape[::2] = [1 << bits for bits in between]
        split = self.occupied.reshape(shape)
        found = np.zeros_like(split)
        here: list[int | slice] = [slice(None)] * split.ndim
        here[1] = 0
        there = list(here)
        there[1] = 1
        for axis in range(3, split.ndim, 2):
            there[axis] = slice(None, None, -1)
        np.logical_and(split[tuple(here)], split[tuple(there)], out=found[tuple(here)])
        return np.flatnonzero(found.reshape(-1)[self.values]).astype(np.int32)


def _pairs_of_mask(index: _Sorted, most: int, earlier: list[_Block], mask: int) -> list[Pairs]:
    """Pairs whose values of the block differ in just the bits of ``mask``."""
    if mask:
        left = index.with_partner(mask)
        partners = index.values[left] ^ np.uint32(mask)
        begin, end = index.starts[partners], index.starts[partners + 1]
    else:
        left = np.arange(len(index.hashes), dtype=np.int32)
        begin, end = left + 1, index.starts[index.values + 1]
    pieces = []
    for start, stop in _portions(end - begin):
        pairs = _compare(index, left[start:stop], begin[start:stop], end[start:stop], most, earlier)
        if len(pairs.first):
            pieces.append(pairs)
    return pieces


def _portions(sizes: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Ranges of neighbours with about ``_MOST`` candidates each."""
    total = np.cumsum(sizes, dtype=np.int64)
    start = 0
    while start < len(sizes):
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _MOST, side="right")))
        yield start, stop
        start = stop


def _compare(
    index: _Sorted,
    left: NDArray[np.int32],
    begin: NDArray[np.int32],
    end: NDArray[np.int32],
    most: int,
    earlier: list[_Block],
) -> Pairs:
    sizes = end - begin
    ends = np.cumsum(sizes, dtype=np.int32)
    right = np.repeat(begin - (ends - sizes), sizes)
    right += np.arange(len(right), dtype=np.int32)
    differing = index.hashes[right]
    differing ^= np.repeat(index.hashes[left], sizes)
    distance = np.bitwise_count(differing)
    near = np.flatnonzero(distance <= most)
    # A pair that an earlier block has found already is not found again.
    for block in earlier:
        near = near[np.bitwise_count(block.values(differing[near])) > block.most]
    owner = np.searchsorted(ends, near, side="right")
    one, other = (index.order[which].astype(np.int64) for which in (left[owner], right[near]))
    return Pairs(np.minimum(one, other), np.maximum(one, other), distance[near])


def hashes_of(
    folder: TileSet, source: SourceTiles, workers: int, progress: Callable[[int], object] = lambda tiles: None
) -> Hashes:
    """Hash the tiles of a source, ``uint64 (N,)``; known hashes are read from ``hashes/<source>.npz``.

    Args:
        folder: Tile set.
        source: One of its sources.
        workers: Number of threads.
        progress: Callback with the number of tiles that are done.

    Raises:
        UserError: if a tile is damaged or missing.
    """
    path = folder.path / "hashes" / f"{source.key}.npz"
    if path.is_file():
        with np.load(path) as stored:
            known: Hashes = stored["hashes"]
            if len(known) == len(source) and str(stored["stamp"]) == source.array.stamp:
                progress(len(source))
                return known
    found = np.zeros(len(source), np.uint64)
    sizes = source.positions[:, 4:6]
    with ThreadPoolExecutor(workers) as pool:
        for start, tiles in source.batches():
            parts = (tile[:height, :width] for tile, (height, width) in zip(tiles, sizes[start:], strict=False))
            found[start : start + len(tiles)] = list(pool.map(difference_hash, parts))
            progress(len(tiles))
    save_numbers(path, hashes=found, stamp=np.array(source.array.stamp))
    return found
