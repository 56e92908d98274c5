"""Tiles come back as they were written, and a set holds whole sources only."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.tile_set import Source, SourceWriter, TileSet


def content(number: int, seed: int = 0) -> tuple["np.typing.NDArray[np.uint8]", "np.typing.NDArray[np.int32]"]:
    generator = np.random.default_rng(seed)
    tiles = generator.integers(0, 256, (number, 224, 224), dtype=np.uint8)
    positions = generator.integers(112, 225, (number, 6)).astype(np.int32)
    positions[:, :4] = np.arange(4 * number).reshape(number, 4)
    return tiles, positions


def add(folder: Path, name: str, number: int, batch: int, seed: int = 0) -> None:
    tiles, positions = content(number, seed)
    source = Source(name, f"{name}.tif", (8.0, 4.0, 4.0), "CC-BY-4.0", {"inverted": False})
    with SourceWriter(folder, source, number) as writer:
        for start in range(0, number, batch):
            writer.write(tiles[start : start + batch], positions[start : start + batch])


@given(number=st.integers(1, 40), batch=st.integers(1, 41))
def test_tiles_and_positions_come_back(tmp_path_factory: pytest.TempPathFactory, number: int, batch: int) -> None:
    folder = tmp_path_factory.mktemp("set")
    add(folder, "a", number, batch)
    (source,) = TileSet(folder).sources()
    tiles, positions = content(number)
    np.testing.assert_array_equal(source.read(0, number), tiles)
    np.testing.assert_array_equal(source.positions, positions)
    height, width = positions[-1, 4:]
    np.testing.assert_array_equal(source.tile(number - 1), tiles[-1, :height, :width])
    assert source.source == Source("a", "a.tif", (8.0, 4.0, 4.0), "CC-BY-4.0", {"inverted": False})
    pieces = list(source.batches(7))
    assert [start for start, _ in pieces] == list(range(0, number, 7))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), tiles)


def test_tiles_of_several_files_read_by_zarr(tmp_path: Path) -> None:
    positions = np.tile(np.array([0, 0, 0, 0, 224, 224], np.int32), (1030, 1))
    last = content(10)[0]
    with SourceWriter(tmp_path, Source("a", "a.tif"), 1030) as writer:
        for start in range(0, 1020, 340):
            writer.write(np.zeros((340, 224, 224), np.uint8), positions[start : start + 340])
        writer.write(last, positions[1020:])
    array = zarr.open_array(tmp_path / "sources" / "a" / "tiles", mode="r")
    np.testing.assert_array_equal(np.asarray(array[1018:1030]), [*np.zeros((2, 224, 224)), *last])
    assert sorted(path.name for path in (tmp_path / "sources" / "a" / "tiles" / "c").iterdir()) == ["0", "1"]


def test_sources_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "c"), start=1):
        add(tmp_path, name, number, 8)
    assert [each.key for each in TileSet(tmp_path).sources()] == ["a", "b", "c"]
    assert len(TileSet(tmp_path)) == 6


def test_interrupted_sources_are_not_in_the_set(tmp_path: Path) -> None:
    add(tmp_path, "a", 2, 2)
    tiles, positions = content(3)

    def interrupted() -> None:
        with SourceWriter(tmp_path, Source("b", "b.tif"), 3) as writer:
            writer.write(tiles[:1], positions[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [each.key for each in TileSet(tmp_path).sources()] == ["a"]
    with pytest.raises(ValueError, match="only 0 of 3 rows"), SourceWriter(tmp_path, Source("b", "b.tif"), 3) as writer:
        writer.write(tiles[:2], positions[:2])
    assert [each.key for each in TileSet(tmp_path).sources()] == ["a"]


def test_damaged_tiles_are_named(tmp_path: Path) -> None:
    add(tmp_path, "a", 3, 3)
    (shard,) = (path for path in (tmp_path / "sources" / "a" / "tiles" / "c").rglob("*") if path.is_file())
    with shard.open("r+b") as file:
        file.seek(60_000)
        file.write(b"\x00\x01\x02")
    (source,) = TileSet(tmp_path).sources()
    assert source.tile(0).shape
    with pytest.raises(UserError, match=r"tiles of a: stored data is damaged"):
        source.tile(1)


def test_what_is_no_tile_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no tile set: make one with `emseg curate tile`"):
        TileSet(tmp_path)
    add(tmp_path, "a", 1, 1)
    with pytest.raises(UserError, match="has tiles of a already"):
        add(tmp_path, "a", 1, 1)
    (tmp_path / "sources" / "z").mkdir()
    with pytest.raises(UserError, match=r"sources/z"):
        TileSet(tmp_path).sources()
