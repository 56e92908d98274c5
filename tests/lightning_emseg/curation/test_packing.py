"""Gini coefficients against closed forms and the mean difference."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.tile_set import Source, SourceWriter, TileSet
from lightning_emseg.commands.curate import pack_set
from lightning_emseg.curation.packing import gini, lorenz_curve, sources_with
from tests.support.tile_sets import textures

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)


@pytest.mark.parametrize("sources", [1, 2, 7])
def test_extreme_distributions_have_extreme_coefficients(sources: int) -> None:
    assert gini([5] * sources) == pytest.approx(0, abs=1e-12)
    assert gini([0] * (sources - 1) + [3]) == pytest.approx(1 - 1 / sources)


def test_coefficient_of_linear_counts_is_known() -> None:
    for number in (2, 10, 101):
        assert gini(list(range(1, number + 1))) == pytest.approx((number - 1) / (3 * number))


@given(COUNTS)
def test_coefficient_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    values = np.array(counts, np.float64)
    difference = np.abs(values[:, None] - values).mean()
    assert gini(counts) == pytest.approx(difference / (2 * values.mean()), abs=1e-9)


@given(COUNTS)
def test_lorenz_curves_are_convex_from_0_to_1(counts: list[int]) -> None:
    curve = lorenz_curve(counts)
    assert (len(curve), curve[0], curve[-1]) == (len(counts) + 1, 0, 1)
    assert (np.diff(curve, 2) >= -1e-12).all()


def test_share_of_sources_that_have_four_fifths() -> None:
    assert sources_with([80, 5, 5, 5, 5], 0.8) == pytest.approx(0.2)
    assert sources_with([79, 6, 5, 5, 5], 0.8) == pytest.approx(0.4)
    assert sources_with([1] * 10, 0.8) == pytest.approx(0.8)


SOURCES = {"a": (6, "CC0"), "b": (3, "CC0"), "c": (2, "")}
DEDUP = {"a": [1, 1, 1, 0, 1, 0], "b": [1, 1, 0], "c": [1, 1]}
FILTER = {"a": [1, 0, 1, 0, 0, 0], "b": [0, 1, 0], "c": [0, 0]}


def step(path: Path, name: str, kept: dict[str, list[int]]) -> None:
    rows = [f"{source},{tile},{value},why" for source, values in kept.items() for tile, value in enumerate(values)]
    record = {"rule": {"number": 3}, "dedup": TileSet(path).hash_table("dedup") if name == "filter" else None}
    (path / f"{name}.csv").write_text("\n".join(["source,tile,kept,reason", *rows]) + "\n")
    (path / f"{name}.json").write_text(json.dumps({**record, "sources": {}}))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "set"
    for seed, (name, (number, licence)) in enumerate(SOURCES.items()):
        positions = np.array([[0, tile, 0, 0, 224, 150 + tile] for tile in range(number)], np.int32)
        with SourceWriter(path, Source(name, f"{name}|.tif", (8, 4, 2), licence, {"seed": seed}), number) as writer:
            writer.write(textures(number, 4, seed), positions)
    step(path, "dedup", DEDUP)
    step(path, "filter", FILTER)
    return path


@pytest.mark.filterwarnings("ignore:the licence")
def test_kept_tiles_are_copied_with_their_metadata(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "3 of 11 tiles from 2 of 3 sources" in pack_set(made, out)
    packed = {each.key: each for each in TileSet(out).sources()}
    assert {name: len(each) for name, each in packed.items()} == {"a": 2, "b": 1}
    assert np.array_equal(packed["a"].read(0, 2), textures(6, 4, 0)[[0, 2]])
    assert packed["a"].positions[:, [1, 5]].tolist() == [[0, 150], [2, 152]]
    assert list(packed["b"].source.pixel_size_nm or ()) == [8, 4, 2]
    assert packed["b"].source.licence == "CC0"
    assert packed["b"].source.details["seed"] == 1
    with (out / "pack.csv").open() as file:
        rows = {(row["source"], row["tile"]): row for row in csv.DictReader(file)}
    assert len(rows) == 11
    assert rows["a", "2"]["packed_tile"] == "1"
    assert rows["a", "1"]["reason"] == "not among the filtered tiles"
    assert rows["a", "3"]["reason"] == "not among the deduplicated tiles"


@pytest.mark.filterwarnings("ignore:the licence")
def test_card_counts_tiles_by_source_and_stage(made: Path, tmp_path: Path) -> None:
    pack_set(made, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    stages = {stage["name"]: stage for stage in card["stages"]}
    assert [stages[name]["tiles"] for name in ("tiled", "deduplicated", "filtered")] == [11, 8, 3]
    # By hand, for counts 2, 3, 6 then 2, 2, 4 then 0, 1, 2: sum of |differences| over 2 n · sum.
    assert [stage["gini"] for stage in card["stages"]] == pytest.approx([16 / 66, 8 / 48, 8 / 18])
    assert card["sources"][2]["tiles"] == {"tiled": 2, "deduplicated": 2, "filtered": 0}
    assert card["licences"] == {"CC0": {"sources": 2, "tiles": 3}}
    assert stages["filtered"]["settings"]["rule"] == {"number": 3}
    written = (tmp_path / "out" / "card.md").read_text()
    assert "| a | a\\|.tif | CC0 | 8 × 4 × 2 | 6 | 4 | 2 |" in written
    assert (tmp_path / "out" / "lorenz.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:the licence")
def test_interrupted_packing_resumes_and_others_are_refused(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack_set(made, out)
    before = (out / "sources" / "a").stat().st_mtime_ns
    (out / "sources" / "b").rename(tmp_path / "away")
    pack_set(made, out)
    assert (out / "sources" / "a").stat().st_mtime_ns == before
    assert len(TileSet(out)) == 3
    step(made, "filter", {**FILTER, "a": [1, 0, 0, 0, 0, 0]})
    with pytest.raises(UserError, match="has other tiles of a: remove it"):
        pack_set(made, out)
    step(made, "filter", {**FILTER, "b": [0, 0, 0]})
    with pytest.raises(UserError, match="has tiles of b, which are not to be packed"):
        pack_set(made, out)


def test_unsuitable_packings_are_refused_or_reported(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the set itself"):
        pack_set(made, made)
    step(made, "filter", {name: [0] * len(values) for name, values in FILTER.items()})
    with pytest.raises(UserError, match="no tile is left to pack"):
        pack_set(made, tmp_path / "none")
    step(made, "filter", {**FILTER, "a": [0] * 6, "b": [0] * 3, "c": [1, 1]})
    with (
        pytest.warns(UserWarning, match="all tiles are of one source"),
        pytest.warns(UserWarning, match="of 1 sources"),
    ):
        pack_set(made, tmp_path / "one")
    step(made, "dedup", {**DEDUP, "a": [1] * 6})
    with pytest.raises(UserError, match=r"has changed since filter\.csv was made"):
        pack_set(made, tmp_path / "late")
