"""The data module of tile sets: which tiles, in which order, on which rank, with which grey values."""

from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.batch import TileBatch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream
from data_modules.tile_set import Source, SourceWriter, TileSet
from data_modules.tiles import Tiles, divide, label_tiles, mirrored
from tests.support.tile_sets import SOURCES, make_tile_set
from tests.support.trainers import StandInTrainer, attach, attach_rank

Place = tuple[int, int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / "set"
    make_tile_set(path)
    return path


def ready(folder: Path, rank: int = 0, world: int = 1, **changes: Any) -> Tiles:
    options: dict[str, Any] = {"batch_size": 4, "held_out": 0.3, "seed": 5}
    data = Tiles(str(folder), **{**options, **changes})
    attach_rank(data, rank, world).setup("fit")
    return data


def places(batches: Any) -> list[Place]:
    return [
        (source, tile)
        for batch in batches
        for source, (tile,) in zip(batch["mosaic"].tolist(), batch["origin"].tolist(), strict=True)
    ]


def as_set(tiles: Any) -> set[Place]:
    return {(source, tile) for source, tile in tiles.tolist()}


def test_an_epoch_shows_each_training_tile_once(folder: Path) -> None:
    data = ready(folder, batch_size=3)
    train = as_set(data.division.train)
    loader = data.train_dataloader()
    cast(Any, loader.sampler).set_epoch(1)
    batches = cast(list[TileBatch], list(loader))
    seen = places(batches)
    assert len(seen) == len(set(seen)) == len(train) // 3 * 3
    assert set(seen) <= train
    assert {len(batch["image"]) for batch in batches} == {3}
    assert places(data.train_dataloader()) != seen


def test_ranks_take_turns_in_one_order(folder: Path) -> None:
    one = places(ready(folder, batch_size=4).train_dataloader())
    two = [places(ready(folder, rank, 2, batch_size=2).train_dataloader()) for rank in range(2)]
    assert one[0::2] == two[0]
    assert one[1::2] == two[1]


def test_tiles_come_as_they_were_written(folder: Path, tmp_path: Path) -> None:
    written = list(make_tile_set(tmp_path / "again").values())
    for batch in cast(list[TileBatch], list(ready(folder, held_out=0.0, batch_size=2).train_dataloader())):
        for image, (height, width), place in zip(
            batch["image"].numpy(), batch["extent"].tolist(), places([batch]) * 1, strict=False
        ):
            source, tile = place
            expected = written[source][tile][:height, :width]
            np.testing.assert_array_equal(image[0, :height, :width], expected)
            assert (height, width) == ((150, 120) if tile == len(written[source]) - 1 else (224, 224))
        assert batch["label"].tolist() == batch["mosaic"].tolist()
        # The plane is xy of axes z, y, x.
        assert batch["pixel_size_nm"].tolist() == [[4.0, 2.0]] * 2


@given(height=st.integers(1, 224), width=st.integers(1, 224))
@example(1, 224)
@example(112, 111)
def test_mirrored_tiles_repeat_their_edges(height: int, width: int) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    whole = mirrored(tile)
    rows, columns = (
        np.minimum(at % (2 * side), 2 * side - 1 - at % (2 * side))
        for at, side in ((np.arange(224), s) for s in tile.shape)
    )
    np.testing.assert_array_equal(whole, tile[np.ix_(rows, columns)])


@given(
    numbers=st.lists(st.integers(0, 30), min_size=1, max_size=5), share=st.floats(0, 0.95), seed=st.integers(0, 1000)
)
@example([0, 1, 2, 3, 30], 0.5, 0)
def test_division_is_complete_disjoint_and_even_over_labels(numbers: list[int], share: float, seed: int) -> None:
    tiles = np.array([(s, t) for s, n in enumerate(numbers) for t in range(n)], np.int64).reshape(-1, 2)
    labels = tuple(np.full(n, number, np.int64) for number, n in enumerate(numbers))
    division = divide(tiles, labels, share, np.random.default_rng(seed))
    parts = [as_set(part) for part in (division.train, division.fit, division.score)]
    assert sum(map(len, parts)) == len(tiles) == len(set().union(*parts))
    for source, number in enumerate(numbers):
        fit, score = (sum(place[0] == source for place in part) for part in parts[1:])
        assert fit - score in (0, 1)
        assert fit + score == (round(share * number) if round(share * number) >= 2 else 0)


def test_tables_leave_tiles_out(folder: Path, tmp_path: Path) -> None:
    def table(name: str, dropped: set[tuple[str, int]]) -> str:
        rows = [f"{s},{t},{int((s, t) not in dropped)},r" for s, n in SOURCES.items() for t in range(n)]
        (tmp_path / name).write_text("\n".join(["source,tile,kept,reason", *rows]) + "\n")
        return str(tmp_path / name)

    tables = [table("a.csv", {("coarse", 0), ("fine", 3)}), table("b.csv", {("fine", 4)})]
    division = ready(folder, tables=tables).division
    used = as_set(np.concatenate([division.train, division.fit, division.score]))
    assert used == {(s, t) for s, n in enumerate(SOURCES.values()) for t in range(n)} - {(0, 0), (1, 3), (1, 4)}
    everything = {(s, t) for s, n in SOURCES.items() for t in range(n)}
    with pytest.raises(UserError, match="no tile is left"):
        ready(folder, tables=[table("c.csv", everything)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source,tile\nfine,0\n", "has no column kept"),
        ("source,tile,kept\nfine,99,1\n", r"line 2 is of tile 99 of 'fine'"),
        ("source,tile,kept\nother,0,1\n", r"of 'other'"),
        ("source,tile,kept\nfine,0,1\n", "has 1 tiles, but the set has 26"),
    ],
)
def test_tables_of_something_else_are_refused(folder: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        ready(folder, tables=[str(tmp_path / "t.csv")])
    with pytest.raises(UserError, match="cannot be read as a table"):
        ready(folder, tables=[str(tmp_path / "gone.csv")])


def test_tiles_labelled_by_a_table_are_held_out(folder: Path, tmp_path: Path) -> None:
    rows = [f"coarse,{tile},{'even' if tile % 2 == 0 else 'odd'}" for tile in range(8)]
    (tmp_path / "l.csv").write_text("\n".join(["source,tile,label", *rows]) + "\n")
    data = ready(folder, labels=str(tmp_path / "l.csv"), held_out=0.5)
    assert label_tiles(tmp_path / "l.csv", TileSet(folder).sources())[0] == ["even", "odd"]
    for part in data.probe_batches():
        found = {
            place: label
            for batch in part
            for place, label in zip(places([batch]), batch["label"].tolist(), strict=True)
        }
        assert sorted(found.values()) == [0, 1]
        assert all(source == 0 and tile % 2 == label for (source, tile), label in found.items())
    assert len(data.division.train) == sum(SOURCES.values()) - 4


def test_labels_are_the_folders_that_files_lay_in(tmp_path: Path) -> None:
    truth = {
        "raw/heart/2019/a.tif": "heart",
        "raw/heart/b.h5:volumes/raw": "heart",
        "raw/liver/c.h5:volumes/raw": "liver",
        "raw/d.H5:x/y/z": "raw",
        "raw/at 10:30/e.mrc": "at 10:30",
        "other/f.png": "other",
        "alone.tif": "alone.tif",
        "https://host/lab/cells.zarr": "https://host/lab/cells.zarr",
    }
    positions = np.array([[0, 0, 0, 0, 224, 224]] * 4, np.int32)
    for number, file in enumerate(truth):
        with SourceWriter(tmp_path, Source(f"s{number}", file), 4) as writer:
            writer.write(np.full((4, 224, 224), number, np.uint8), positions)
    data = ready(tmp_path, labels="folder", held_out=0.5)
    names, _ = label_tiles("folder", TileSet(tmp_path).sources())
    assert names == sorted(set(truth.values()))
    files = list(truth)
    for part in data.probe_batches():
        for batch in part:
            found = [names[label] for label in batch["label"].tolist()]
            assert found == [truth[files[source]] for source, _ in places([batch])]
    # The same share of every folder, whatever its number of sources.
    held_out = np.concatenate([data.division.fit, data.division.score])[:, 0].tolist()
    assert Counter(truth[files[source]] for source in held_out) == {
        folder: 2 * list(truth.values()).count(folder) for folder in names
    }


def test_one_folder_alone_is_no_label(tmp_path: Path) -> None:
    make_tile_set(tmp_path, {"coarse": 3})
    with pytest.raises(UserError, match=r"all sources are of the folder 'coarse\.tif'.*give a table"):
        ready(tmp_path, labels="folder")


def test_without_labels_sources_share_held_out_tiles(folder: Path) -> None:
    names = list(SOURCES)
    division = ready(folder).division
    everything = np.array([(s, t) for s, name in enumerate(names) for t in range(SOURCES[name])], np.int64)
    by_source = tuple(np.full(SOURCES[name], number, np.int64) for number, name in enumerate(names))
    expected = divide(everything, by_source, 0.3, stream(5, Purpose.SPLIT))
    for part in ("train", "fit", "score"):
        np.testing.assert_array_equal(getattr(division, part), getattr(expected, part))
    assert label_tiles(None, TileSet(folder).sources())[0] == names


def test_held_out_tiles_are_shared_out_over_ranks(folder: Path) -> None:
    whole = [places(part) for part in ready(folder).probe_batches()]
    shares = [[places(part) for part in ready(folder, rank, 3).probe_batches()] for rank in range(3)]
    for number, expected in enumerate(whole):
        assert len(expected) >= 4
        for rank in range(3):
            assert shares[rank][number] == expected[rank::3]


def test_norms_are_of_the_pixels_of_training_tiles(folder: Path, tmp_path: Path) -> None:
    written = list(make_tile_set(tmp_path / "again").values())
    data = ready(folder)
    pixels = []
    for source, tile in data.division.train.tolist():
        is_small = tile == len(written[source]) - 1
        pixels.append((written[source][tile][:150, :120] if is_small else written[source][tile]).ravel())
    grey = np.concatenate(pixels).astype(np.float64)
    assert data.norms() == pytest.approx((grey.mean(), grey.std()), rel=1e-12)


def test_too_few_tiles_for_a_batch_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="fewer than a batch of 40 over all processes"):
        ready(folder, world=2, batch_size=20)
    with pytest.raises(UserError, match="is no tile set"):
        ready(folder / "sources")
    with pytest.raises(UserError, match="held_out"):
        Tiles(str(folder), held_out=1.0)
    with pytest.raises(UserError, match="not set up"):
        Tiles(str(folder)).norms()


def test_only_training_batches_become_views(folder: Path) -> None:
    data = ready(folder)
    batch = cast(TileBatch, next(iter(data.train_dataloader())))
    for training in (False, True):
        attach(data, StandInTrainer(training=training))
        assert ("second" in data.on_after_batch_transfer(batch, 0)) is training
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["image"].device.type == "meta"
    assert moved["index"].device.type == moved["extent"].device.type == "cpu"
