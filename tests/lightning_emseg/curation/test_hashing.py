"""Difference hashes against their definition, pixel by pixel, and under changes of the picture."""

import math

import imagehash
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from lightning_emseg.curation.hashing import Hashes, difference_hash, near_pairs
from tests.support.tile_sets import cells


@given(seed=st.integers(0, 999), height=st.integers(112, 224), width=st.integers(112, 224))
def test_bits_compare_neighbours_from_the_top_left(seed: int, height: int, width: int) -> None:
    tile = cells(seed, (height, width))
    small = Image.fromarray(tile).resize((9, 8), Image.Resampling.LANCZOS)
    text = "".join(
        "1" if small.getpixel((x + 1, y)) > small.getpixel((x, y)) else "0"  # type: ignore[operator]
        for y in range(8)
        for x in range(8)
    )
    assert int(difference_hash(tile)) == int(text, 2)


@pytest.mark.parametrize("side", [(224, 224), (224, 130), (112, 200)])
def test_hash_matches_the_papers_package(side: tuple[int, int]) -> None:
    for seed in range(20):
        tile = cells(seed, side)
        assert int(difference_hash(tile)) == int(str(imagehash.dhash(Image.fromarray(tile))), 16)


def test_noise_and_brightness_move_few_bits() -> None:
    tile = cells(1).astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 8, tile.shape)
    changed = np.rint((0.8 * tile + 20 + noise).clip(0, 255)).astype(np.uint8)
    own = int(difference_hash(cells(1)))
    assert (own ^ int(difference_hash(changed))).bit_count() <= 4
    others = [(own ^ int(difference_hash(cells(seed)))).bit_count() for seed in range(2, 40)]
    assert np.mean(others) > 20


def test_constant_tile_has_no_bits() -> None:
    assert difference_hash(np.full((224, 224), 90, np.uint8)) == 0


Found = list[tuple[int, int, int]]


def by_brute_force(hashes: Hashes, most: int) -> Found:
    return [
        (i, j, bits)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (bits := (int(hashes[i]) ^ int(hashes[j])).bit_count()) <= most
    ]


def found(hashes: Hashes, most: int, workers: int = 1) -> Found:
    pieces = near_pairs(hashes, most, workers)
    return sorted(
        (int(a), int(b), int(bits))
        for piece in pieces
        for a, b, bits in zip(piece.first, piece.second, piece.distance, strict=True)
    )


def planted(number: int, flips: int, seed: int) -> Hashes:
    """Random hashes, half of which are others with up to ``flips`` bits flipped."""
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**64, number, dtype=np.uint64)
    for index in range(0, number - 1, 2):
        bits = generator.choice(64, generator.integers(0, flips + 1), replace=False)
        hashes[index] = hashes[index + 1] ^ np.uint64(sum(1 << int(bit) for bit in bits))
    return hashes


@example(number=150, most=14, seed=0, workers=2)
@example(number=2, most=0, seed=1, workers=1)
@given(number=st.integers(0, 150), most=st.integers(0, 14), seed=st.integers(0, 2**32), workers=st.sampled_from([1, 2]))
def test_each_near_pair_is_found_once(number: int, most: int, seed: int, workers: int) -> None:
    hashes = planted(number, most + 2, seed)
    assert found(hashes, most, workers) == by_brute_force(hashes, most)


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.just(2**64 - 1), max_size=40), st.integers(0, 12))
def test_clustered_hashes_match_brute_force(values: list[int], most: int) -> None:
    hashes = np.array(values, np.uint64)
    assert found(hashes, most) == by_brute_force(hashes, most)


def test_identical_hashes_are_found_in_portions() -> None:
    hashes = np.full(2100, 7, np.uint64)
    assert sum(len(piece.first) for piece in near_pairs(hashes, 3)) == 2100 * 2099 // 2


def test_planted_pairs_are_found_among_chance_pairs() -> None:
    number = 30_000
    hashes = planted(number, 11, 0)
    pairs = found(hashes, 11, 2)
    assert len(set(pairs)) == len(pairs)
    assert all((int(hashes[i]) ^ int(hashes[j])).bit_count() == bits <= 11 for i, j, bits in pairs)
    others = [(i, j) for i, j, _ in pairs if i % 2 or j != i + 1]
    assert len(pairs) - len(others) == number // 2
    expected = math.comb(number, 2) * sum(math.comb(64, bits) for bits in range(12)) / 2**64
    assert abs(len(others) - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("most", [-1, 21])
def test_distances_out_of_range_are_refused(most: int) -> None:
    with pytest.raises(ValueError, match="outside 0 to 20"):
        next(near_pairs(np.zeros(2, np.uint64), most))
