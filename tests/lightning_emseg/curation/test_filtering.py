"""`emseg curate filter` on tiles of which some are blank: table, counts, a second run, and what it refuses."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.labelled_tiles import split_labels
from data_modules.tile_set import Source, SourceTiles, SourceWriter, TileSet
from lightning_emseg.commands.curate.filter import filter_set
from lightning_emseg.curation import tile_values
from lightning_emseg.curation.filtering import Rule, filter_tiles
from lightning_emseg.curation.forest import auroc
from lightning_emseg.curation.tile_values import TileValues
from tests.support.tile_sets import textures

Tile = NDArray[np.uint8]


def write(path: Path, name: str, tiles: Tile) -> None:
    positions = np.tile(np.array([0, 0, 0, 0, 224, 224], np.int32), (len(tiles), 1))
    with SourceWriter(path, Source(name, name), len(tiles)) as writer:
        writer.write(tiles, positions)


def faint(number: int, seed: int) -> Tile:
    """The textures with a tenth of the contrast, and noise, so that they are not uniform."""
    random = np.random.default_rng(seed)
    grey = 120 + (textures(number, 6, 0).astype(np.float64) - 120) / 10 + random.normal(0, 4, (number, 224, 224))
    return np.asarray(np.clip(grey, 0, 255), np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source good: 14 textures; poor: 12 faint ones; flat: two blank tiles. All but the flat ones are labelled."""
    path = tmp_path_factory.mktemp("tiles") / "set"
    write(path, "good", textures(14, 6, 1))
    write(path, "poor", faint(12, 2))
    write(path, "flat", np.stack([np.full((224, 224), 100, np.uint8), textures(1, 6, 3)[0] // 200]))
    rows = [f"good,{tile},informative" for tile in range(14)] + [f"poor,{tile},uninformative" for tile in range(12)]
    (path / "labels.csv").write_text("\n".join(["source,tile,label", *rows]) + "\n")
    return path


def table(path: Path) -> dict[tuple[str, int], dict[str, str]]:
    with (path / "filter.csv").open() as file:
        return {(row["source"], int(row["tile"])): row for row in csv.DictReader(file)}


def deduplicated(path: Path, removed: tuple[str, int]) -> None:
    rows = ["source,tile,kept,reason"]
    for source in TileSet(path).sources():
        name = source.source.name
        rows += [f"{name},{tile},{int((name, tile) != removed)},exemplar" for tile in range(len(source))]
    (path / "dedup.csv").write_text("\n".join(rows) + "\n")


def test_tiles_have_reasons_and_reruns_read_no_pixels(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deduplicated(made, ("good", 3))
    said = filter_set(made, forest=made / "labels.csv", held_out=0.3, workers=1)
    assert "AUROC 1.000 on 8 held-out labels" in said
    rows = table(made)
    assert rows["good", 3]["reason"] == "duplicate"
    assert rows["good", 3]["probability"] == ""
    reasons = Counter((source, row["reason"], row["kept"]) for (source, _), row in rows.items())
    assert reasons == {
        ("good", "informative", "1"): 13,
        ("good", "duplicate", "0"): 1,
        ("poor", "uninformative", "0"): 12,
        ("flat", "80 % uniform", "0"): 2,
    }
    record = json.loads((made / "filter.json").read_text())
    assert (record["tiles"], record["duplicates"], record["uniform"], record["kept"]) == (28, 1, 2, 13)
    assert record["sources"]["poor"]["uninformative"] == 12
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
        write(path, name, np.full((tiles, 224, 224), 90, np.uint8))
        rows += [f"{name},{tile},{int(tile >= duplicates)}," for tile in range(tiles)]
        kept[name] = np.arange(tiles) < duplicates + left
    (path / "dedup.csv").write_text("\n".join(rows) + "\n")

    def judge(source: SourceTiles, _: NDArray[np.bool_]) -> NDArray[np.float32]:
        return kept[source.source.name].astype(np.float32)

    def textured(source: SourceTiles, _: NDArray[np.bool_]) -> NDArray[np.float32]:
        return np.zeros(len(source), np.float32)

    found = filter_tiles(TileSet(path), judge, textured, Rule(), {})
    assert (found.counts["kept"], found.counts["duplicates"]) == (3, 21)
    assert (found.nothing_left, found.little_left) == (["lost"], ["less"])
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


def test_labels_are_held_out_by_class_and_seed(made: Path, tmp_path: Path) -> None:
    sources = TileSet(made).sources()
    split = split_labels(made / "labels.csv", sources, 0.25, 0)
    assert sorted(split.of(split.held_out)) == [0] * 3 + [1] * 4
    both = {tuple(tile) for part in (split.train, split.held_out) for tile in part.tolist()}
    assert len(both) == len(split.train) + len(split.held_out) == 26
    again = split_labels(made / "labels.csv", sources, 0.25, 0)
    assert np.array_equal(split.held_out, again.held_out)
    assert not np.array_equal(split.held_out, split_labels(made / "labels.csv", sources, 0.25, 1).held_out)
    odd = tmp_path / "odd.csv"
    odd.write_text("source,tile,label\ngood,0,informative\ngood,1,blurred\n")
    with pytest.raises(UserError, match="has the label 'blurred'"):
        split_labels(odd, sources, 0.25, 0)
    odd.write_text("source,tile,label\ngood,0,informative\ngood,1,informative\npoor,0,uninformative\n")
    with pytest.raises(UserError, match="calls 1 tiles uninformative"):
        split_labels(odd, sources, 0.25, 0)


def test_known_values_are_reused_for_one_stamp(made: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def mean(tiles: Sequence[Tile]) -> NDArray[np.float32]:
        asked.append(len(tiles))
        return np.array([[tile.mean()] for tile in tiles], np.float32)

    folder = TileSet(made)
    source = folder.sources()[1]
    truth = textures(14, 6, 1).mean(axis=(1, 2))
    some = np.arange(14) < 4
    first = TileValues(folder, "means", "a", 1, mean).of(source, some)
    assert np.allclose(first[:4, 0], truth[:4])
    assert np.isnan(first[4:]).all()
    told: list[int] = []
    everything = TileValues(folder, "means", "a", 1, mean).of(source, ~some | some, told.append)
    assert np.allclose(everything[:, 0], truth)
    assert (asked, told) == ([4, 10], [4, 10])
    TileValues(folder, "means", "b", 1, mean).of(source, some)
    assert asked == [4, 10, 4]


def test_interrupted_source_resumes_after_its_last_batch(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_values, "_BATCH", 4)
    monkeypatch.setattr(tile_values, "_SAVE_EVERY_S", -1.0)
    asked: list[int] = []

    def interrupted(tiles: Sequence[Tile]) -> NDArray[np.float32]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        return means(tiles)

    def means(tiles: Sequence[Tile]) -> NDArray[np.float32]:
        asked.append(len(tiles))
        return np.array([[tile.mean()] for tile in tiles], np.float32)

    folder = TileSet(made)
    source, every = folder.sources()[1], np.ones(14, np.bool_)
    with pytest.raises(KeyboardInterrupt):
        TileValues(folder, "broken", "a", 1, interrupted).of(source, every)
    found = TileValues(folder, "broken", "a", 1, means).of(source, every)
    assert asked == [4, 4, 4, 2]
    assert np.allclose(found[:, 0], textures(14, 6, 1).mean(axis=(1, 2)))


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    values, labels = (random.integers(0, 5, 40) / 4).astype(np.float32), random.integers(0, 2, 40)
    pairs = values[labels == 1][:, None] - values[labels == 0]
    assert auroc(values, labels) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_rules_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="--uniform-share 0"):
        Rule(uniform_share=0)
