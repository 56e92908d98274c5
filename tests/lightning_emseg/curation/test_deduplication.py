"""Correlation of fingerprints against numpy."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import Source, SourceTiles, SourceWriter, TileSet, read_kept
from lightning_emseg.commands import main
from lightning_emseg.curation.deduplication import (
    DuplicateRule,
    Exemplars,
    choose_exemplars,
    correlate,
    deduplicate,
    fingerprint,
)
from lightning_emseg.curation.hashing import Hashes, Indices
from tests.support.tile_sets import cells


def test_correlation_ignores_brightness() -> None:
    one, brighter = cells(1), (cells(1) * 0.7 + 60).astype(np.uint8)
    assert correlate(fingerprint(one), fingerprint(one)) > 0.9999
    assert correlate(fingerprint(one), fingerprint(brighter)) > 0.999
    assert correlate(fingerprint(one), fingerprint(255 - one)) < -0.999
    assert abs(correlate(fingerprint(one), fingerprint(cells(2)))) < 0.6
    blank = fingerprint(np.full((200, 150), 13, np.uint8))
    assert correlate(blank, blank) == 1
    assert correlate(blank, fingerprint(one)) == 0


def test_correlation_matches_numpy_on_block_means() -> None:
    one, other = cells(3).astype(np.float64), cells(4).astype(np.float64)
    means = [tile.reshape(56, 4, 56, 4).mean((1, 3)).ravel() for tile in (one, other)]
    expected = np.corrcoef(*means)[0, 1]
    found = correlate(fingerprint(cells(3)), fingerprint(cells(4)))
    assert abs(found - expected) < 1e-4


def unseen(tile: int, others: Indices) -> NDArray[np.float32]:
    return np.full(len(others), np.nan, np.float32)


def chosen(hashes: Hashes, most: int, seed: int = 0) -> Exemplars:
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


Tile = NDArray[np.uint8]


def noisy(tile: Tile, seed: int) -> Tile:
    noise = np.random.default_rng(seed).normal(0, 6, tile.shape)
    return np.asarray(np.rint((tile + noise).clip(0, 255)), np.uint8)


def ramp(bands: int) -> Tile:
    """Brighter from left to right, so that all bits of the hash are set, with its own bands from top to bottom."""
    rows = np.random.default_rng(bands).permutation(np.linspace(0, 160, 8)).repeat(28)
    return np.asarray(rows[:, None] + np.linspace(0, 60, 224), np.uint8)


def add(folder: Path, name: str, tiles: list[Tile]) -> None:
    positions = np.array([[0, index, 0, 0, *tile.shape] for index, tile in enumerate(tiles)], np.int32)
    padded = np.stack([np.pad(tile, [(0, 224 - side) for side in tile.shape]) for tile in tiles])
    with SourceWriter(folder, Source(name, name), len(tiles)) as writer:
        writer.write(padded, positions)


@pytest.fixture
def tile_set(tmp_path: Path) -> TileSet:
    """Source a: a picture three times, two others; b: one of a's and its own; c: ramps that hash like those of b."""
    add(tmp_path, "a", [cells(1), noisy(cells(1), 0), noisy(cells(1), 1), cells(2), cells(3)])
    add(tmp_path, "b", [noisy(cells(2), 2), cells(4), ramp(0)])
    add(tmp_path, "c", [ramp(1), ramp(2)[:150, :130]])
    return TileSet(tmp_path)


def groups(folder: TileSet) -> list[set[tuple[str, int]]]:
    found: dict[tuple[str, int], set[tuple[str, int]]] = {}
    with (folder.path / "dedup.csv").open() as file:
        for row in csv.DictReader(file):
            own = (row["source"], int(row["tile"]))
            exemplar = own if row["kept"] == "1" else (row["exemplar_source"], int(row["exemplar_tile"]))
            found.setdefault(exemplar, set()).add(own)
    return sorted((group for group in found.values() if len(group) > 1), key=sorted)


def test_duplicates_are_found_within_and_across_sources(tile_set: TileSet) -> None:
    found = deduplicate(tile_set, DuplicateRule(look="all"), workers=2)
    assert groups(tile_set) == [{("a", 0), ("a", 1), ("a", 2)}, {("a", 3), ("b", 0)}]
    record = json.loads((tile_set.path / "dedup.json").read_text())
    assert (record["tiles"], record["kept"], record["removed_across_sources"]) == (10, 7, 1)
    assert record["kept_because_pixels_differ"] == found.refused > 0
    kept = read_kept(tile_set.sources(), tile_set.tables("dedup"))
    assert sum(int(each.sum()) for each in kept) == 7


def test_near_hash_is_enough_within_a_source(tile_set: TileSet) -> None:
    deduplicate(tile_set, DuplicateRule(look="across"), workers=1)
    assert {("c", 0), ("c", 1)} in groups(tile_set)
    assert not any({"b", "c"} <= {source for source, _ in group} for group in groups(tile_set))
    deduplicate(tile_set, DuplicateRule(look="none"), workers=1)
    assert {("b", 2), ("c", 0), ("c", 1)} in groups(tile_set)


def test_second_run_reads_only_hashes(tile_set: TileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    deduplicate(tile_set, DuplicateRule(look="none"), workers=1)
    before = (tile_set.path / "dedup.csv").read_bytes()

    def refuse(self: SourceTiles, start: int, stop: int) -> Tile:
        raise AssertionError("tiles were read again")

    monkeypatch.setattr(SourceTiles, "read", refuse)
    deduplicate(tile_set, DuplicateRule(look="none"), workers=1)
    assert (tile_set.path / "dedup.csv").read_bytes() == before


def test_hashes_of_replaced_tiles_are_recomputed(tile_set: TileSet) -> None:
    deduplicate(tile_set, DuplicateRule(), workers=1)
    shutil.rmtree(tile_set.path / "sources" / "a")
    add(tile_set.path, "a", [cells(seed) for seed in (10, 11, 12, 13, 4)])
    deduplicate(tile_set, DuplicateRule(), workers=1)
    assert {("a", 4), ("b", 1)} in groups(tile_set)


def test_tables_of_another_set_are_refused(tile_set: TileSet) -> None:
    deduplicate(tile_set, DuplicateRule(), workers=1)
    add(tile_set.path, "d", [cells(20)])
    with pytest.raises(UserError, match="has 10 tiles, but the set has 11: it has changed since"):
        read_kept(tile_set.sources(), tile_set.tables("dedup"))
    shutil.rmtree(tile_set.path / "sources" / "a")
    with pytest.raises(UserError, match="is of tile 0 of 'a', which the set has not"):
        read_kept(tile_set.sources(), tile_set.tables("dedup"))


def test_command_reports_what_it_kept(tile_set: TileSet, capsys: pytest.CaptureFixture[str]) -> None:
    main(["curate", "dedup", str(tile_set.path), "--look", "all"])
    said = capsys.readouterr().out
    assert said.startswith("7 of 10 tiles kept, 3 are near-duplicates; ")
    for wrong in ("--distance=30", "--distance=-1", "--correlation=1.5", "--correlation=-1.5"):
        with pytest.raises(SystemExit) as caught:
            main(["curate", "dedup", str(tile_set.path), wrong])
        assert "0 to 20 bits, and −1 to 1" in str(caught.value.code)
