"""All near pairs of up to a million hashes with planted groups, against brute force on a part of them."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.curation.hashing import Hashes, near_pairs
from tests.bench.harness import Row, peak_of

MOST = 11
SIZES = (100_000, 300_000, 1_000_000)
CHECKED = 50_000
PAPER = 5_300_000
"""Tiles of CEMraw."""

Keys = NDArray[np.uint64]


def planted(number: int) -> Hashes:
    """Random hashes; a fifth of them are others with up to eleven bits flipped, in groups of two to five."""
    random = np.random.default_rng(number)
    hashes = random.integers(0, 2**64, number, dtype=np.uint64)
    copies = random.permutation(number)[: number // 5]
    originals = np.repeat(random.permutation(number)[: number // 10], 4)[: len(copies)]
    flips = np.zeros(len(copies), np.uint64)
    for _ in range(MOST):
        bits = np.uint64(1) << random.integers(0, 64, len(copies)).astype(np.uint64)
        flips |= np.where(random.random(len(copies)) < 0.6, bits, np.uint64(0))
    hashes[copies] = hashes[originals] ^ flips
    return hashes


def search(hashes: Hashes) -> Keys:
    """All pairs as sorted numbers that name both, found on both cores."""
    pieces = near_pairs(hashes, MOST, workers=2)
    found = [piece.first.astype(np.uint64) << np.uint64(32) | piece.second.astype(np.uint64) for piece in pieces]
    return np.sort(np.concatenate([np.zeros(0, np.uint64), *found]))


def brute_force(hashes: Hashes) -> Keys:
    """The same by comparing each with each."""
    found = []
    for index in range(len(hashes)):
        near = np.flatnonzero(np.bitwise_count(hashes[index + 1 :] ^ hashes[index]) <= MOST) + index + 1
        found.append(np.uint64(index) << np.uint64(32) | near.astype(np.uint64))
    return np.sort(np.concatenate(found))


def million() -> None:
    """In a process of its own, so that its memory can be watched."""
    search(planted(SIZES[-1]))


def rows(scratch: Path) -> Iterator[Row]:
    """Seconds of each size, its growth, memory, and whether a part agrees with brute force."""
    seconds = {}
    for number in SIZES:
        hashes = planted(number)
        start = time.perf_counter()
        found = search(hashes)
        seconds[number] = time.perf_counter() - start
        assert len(np.unique(found)) == len(found), "a pair was found twice"
        what = f"{number:,} hashes, all pairs up to 11 bits"
        yield Row("near pairs", what, seconds[number], "s", note=f"{len(found):,} pairs")
    part = planted(SIZES[-1])[:CHECKED]
    start = time.perf_counter()
    expected = brute_force(part)
    slow = time.perf_counter() - start
    start = time.perf_counter()
    same = np.array_equal(search(part), expected)
    fast = time.perf_counter() - start
    what = f"{CHECKED:,} of them against brute force"
    note = f"{len(expected):,} pairs"
    yield Row("near pairs", what, fast, "s", f"{slow:.1f} s", slow / fast, target="equal", met=same, note=note)
    yield Row("near pairs", "peak memory of 1,000,000", peak_of(million).peak_mib, "MiB")
    growth = np.log(seconds[SIZES[-1]] / seconds[SIZES[0]]) / np.log(SIZES[-1] / SIZES[0])
    estimate = seconds[SIZES[-1]] * (PAPER / SIZES[-1]) ** 2
    yield Row("near pairs", "growth: exponent from 100,000 to 1,000,000", float(growth), "")
    yield Row("near pairs", "5,300,000 hashes, at most (quadratic)", estimate, "s", note="estimated, not measured")
