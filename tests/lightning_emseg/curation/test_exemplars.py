"""A removed tile is near its exemplar, exemplars are not near each other, and pixels have the last word."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightning_emseg.curation.exemplars import Choice, choose_exemplars
from lightning_emseg.curation.near_pairs import Hashes, Indices


def unseen(tile: int, others: Indices) -> NDArray[np.float32]:
    return np.full(len(others), np.nan, np.float32)


def chosen(hashes: Hashes, most: int, seed: int = 0) -> Choice:
    return choose_exemplars(hashes, most, unseen, 0.6, seed, workers=1)


def bits(one: np.uint64, other: np.uint64) -> int:
    return (int(one) ^ int(other)).bit_count()


@given(
    values=st.lists(st.integers(0, 255) | st.integers(0, 2**64 - 1), max_size=60),
    most=st.integers(0, 11),
    seed=st.integers(0, 99),
)
def test_groups_hold_tiles_near_their_exemplar(values: list[int], most: int, seed: int) -> None:
    hashes = np.array(values, np.uint64)
    choice = chosen(hashes, most, seed)
    kept = np.flatnonzero(choice.kept)
    for tile, exemplar in enumerate(choice.exemplar):
        assert choice.kept[exemplar]
        assert choice.distance[tile] == bits(hashes[tile], hashes[exemplar]) <= most
    for one in kept:
        assert all(bits(hashes[one], hashes[other]) > most for other in kept if other != one)
    assert choice.refused == 0


def test_chains_do_not_become_one_group() -> None:
    # Neighbours differ in eight bits, ends in sixteen.
    hashes = np.array([0, 0xFF, 0xFFFF], np.uint64)
    exemplars = {tuple(chosen(hashes, 11, seed).exemplar) for seed in range(20)}
    assert exemplars == {(1, 1, 1), (0, 0, 2), (0, 2, 2)}


def test_seed_decides_which_tile_stays() -> None:
    hashes = np.zeros(5, np.uint64)
    assert np.array_equal(chosen(hashes, 11, 3).exemplar, chosen(hashes, 11, 3).exemplar)
    assert len({int(chosen(hashes, 11, seed).exemplar[0]) for seed in range(40)}) == 5


def test_tiles_with_different_pixels_are_kept() -> None:
    hashes = np.array([0, 1, 3, 2**63], np.uint64)
    shown = np.array([0, 0, 1, 1])

    def look(tile: int, others: Indices) -> NDArray[np.float32]:
        return np.where(shown[others] == shown[tile], 0.9, 0.1).astype(np.float32)

    for seed in range(10):
        choice = choose_exemplars(hashes, 11, look, 0.6, seed, workers=1)
        assert choice.kept.sum() == 2
        assert set(shown[choice.kept]) == {0, 1}
        assert (shown[choice.exemplar] == shown).all()
        assert np.allclose(choice.correlation[~choice.kept], 0.9)
        assert np.isnan(choice.correlation[choice.kept]).all()
        assert choice.refused > 0
