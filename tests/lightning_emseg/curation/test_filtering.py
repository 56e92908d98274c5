"""AUROC against its definition over pairs, and a forest on statistics that tell both classes apart."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import SourceTiles, TileSet
from lightning_emseg.commands.curate_filter import filter_set
from lightning_emseg.curation.filtering import FilterRule, auroc, filter_tiles, fit_forest
from tests.support.tile_sets import textures, write_source


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    values, labels = (random.integers(0, 5, 40) / 4).astype(np.float32), random.integers(0, 2, 40)
    pairs = values[labels == 1][:, None] - values[labels == 0]
    assert auroc(values, labels) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_forest_separates_separable_statistics() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(60) % 2
    statistics = random.normal(size=(60, 4)).astype(np.float32)
    # The third statistic alone tells the classes apart.
    statistics[:, 2] += 6 * labels
    forest = fit_forest((statistics[:40], labels[:40]), (statistics[40:], labels[40:]), 0, 1)
    assert forest.auroc == 1
    importances = forest.importances
    assert max(importances, key=lambda name: importances[name]) == "geometric mean median"
    assert sum(importances.values()) == pytest.approx(1)
    unknown = statistics[40:44].copy()
    unknown[1, 3] = np.nan
    found = forest.probability(unknown)
    assert np.isnan(found).tolist() == [False, True, False, False]
    assert (found[[0, 2, 3]] > 0.5).tolist() == [False, False, True]


Tile = NDArray[np.uint8]


def faint(number: int, seed: int) -> Tile:
    """The textures with a tenth of the contrast, and noise, so that they are not uniform."""
    random = np.random.default_rng(seed)
    grey = 120 + (textures(number, 6, 0).astype(np.float64) - 120) / 10 + random.normal(0, 4, (number, 224, 224))
    return np.asarray(np.clip(grey, 0, 255), np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source good: 9 textures; poor: 7 faint ones; flat: two blank tiles. All but the flat ones are labelled."""
    path = tmp_path_factory.mktemp("tiles") / "set"
    write_source(path, "good", textures(9, 6, 1))
    write_source(path, "poor", faint(7, 2))
    write_source(path, "flat", np.stack([np.full((224, 224), 100, np.uint8), textures(1, 6, 3)[0] // 200]))
    rows = [f"good,{tile},informative" for tile in range(9)] + [f"poor,{tile},uninformative" for tile in range(7)]
    (path / "labels.csv").write_text("\n".join(["source,tile,label", *rows]) + "\n")
    return path


def table(path: Path) -> dict[tuple[str, int], dict[str, str]]:
    with (path / "filter.csv").open() as file:
        return {(row["source"], int(row["tile"])): row for row in csv.DictReader(file)}


def deduplicated(path: Path, removed: tuple[str, int]) -> None:
    rows = ["source,tile,kept,reason"]
    for source in TileSet(path).sources():
        name = source.key
        rows += [f"{name},{tile},{int((name, tile) != removed)},exemplar" for tile in range(len(source))]
    (path / "dedup.csv").write_text("\n".join(rows) + "\n")


def test_tiles_have_reasons_and_reruns_read_no_pixels(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deduplicated(made, ("good", 3))
    said = filter_set(made, forest=made / "labels.csv", held_out=0.3, workers=1)
    assert "AUROC 1.000 on 5 held-out labels" in said
    rows = table(made)
    assert rows["good", 3]["reason"] == "duplicate"
    assert rows["good", 3]["probability"] == ""
    reasons = Counter((source, row["reason"], row["kept"]) for (source, _), row in rows.items())
    assert reasons == {
        ("good", "informative", "1"): 8,
        ("good", "duplicate", "0"): 1,
        ("poor", "uninformative", "0"): 7,
        ("flat", "80 % uniform", "0"): 2,
    }
    record = json.loads((made / "filter.json").read_text())
    assert (record["tiles"], record["duplicates"], record["uniform"], record["kept"]) == (18, 1, 2, 8)
    assert record["sources"]["poor"]["uninformative"] == 7
    assert said.endswith("\nnothing is left of 2 of 3 sources, look at them before you train: flat, poor")
    assert (record["nothing_left"], record["little_left"]) == (["flat", "poor"], [])
    assert sum(record["judge"]["importances"].values()) == pytest.approx(1)

    def refuse(self: SourceTiles, start: int, stop: int) -> Tile:
        raise AssertionError("tiles were read again")

    monkeypatch.setattr(SourceTiles, "read", refuse)
    before = (made / "filter.csv").read_bytes()
    filter_set(made, forest=made / "labels.csv", held_out=0.3, workers=1)
    assert (made / "filter.csv").read_bytes() == before
    # A threshold that nothing reaches leaves nothing but what was removed before.
    filter_set(made, forest=made / "labels.csv", held_out=0.3, threshold=1.0, uniform_share=1.0, workers=1)
    assert {row["reason"] for row in table(made).values()} >= {"uninformative", "duplicate", "100 % uniform"}


def test_sources_losing_nearly_all_tiles_are_named(tmp_path: Path) -> None:
    path = tmp_path / "set"
    # Tiles, duplicates and tiles that the filter keeps of the others.
    numbers = {"tenth": (10, 0, 1), "less": (11, 0, 1), "of_few": (20, 18, 1), "lost": (3, 1, 0), "twice": (2, 2, 0)}
    rows, kept = ["source,tile,kept,reason"], {}
    for name, (tiles, duplicates, left) in numbers.items():
        write_source(path, name, np.full((tiles, 224, 224), 90, np.uint8))
        rows += [f"{name},{tile},{int(tile >= duplicates)}," for tile in range(tiles)]
        kept[name] = np.arange(tiles) < duplicates + left
    (path / "dedup.csv").write_text("\n".join(rows) + "\n")

    def judge(source: SourceTiles, _: NDArray[np.bool_]) -> NDArray[np.float32]:
        return kept[source.key].astype(np.float32)

    def textured(source: SourceTiles, _: NDArray[np.bool_]) -> NDArray[np.float32]:
        return np.zeros(len(source), np.float32)

    found = filter_tiles(TileSet(path), judge, textured, FilterRule(), {})
    assert (found["kept"], found["duplicates"]) == (3, 21)
    assert (found["nothing_left"], found["little_left"]) == (["lost"], ["less"])
    record = json.loads((path / "filter.json").read_text())
    assert (record["nothing_left"], record["little_left"]) == (["lost"], ["less"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give a checkpoint, or labels"),
        ({"forest": Path("labels.csv"), "threshold": 1.5}, "--threshold 1.5"),
        ({"forest": Path("none.csv")}, "none.csv cannot be read"),
        ({"checkpoint": Path("none.ckpt")}, "no checkpoint at none.ckpt"),
    ],
)
def test_invalid_options_are_named(made: Path, options: dict[str, Path | float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        filter_set(made, workers=1, **options)  # type: ignore[arg-type]


def test_rules_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="--uniform-share 0"):
        FilterRule(uniform_share=0)
