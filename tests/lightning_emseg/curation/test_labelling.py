"""Labelling sessions keep their order and their labels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import UserError
from data_modules.tile_set import TileSet
from lightning_emseg.curation.labelling import LabelSession
from tests.support.tile_sets import textures, write_source


@pytest.fixture
def folder(tmp_path: Path) -> TileSet:
    """Six tiles of which deduplication removed one."""
    write_source(tmp_path, "a", textures(4, 6, 0))
    write_source(tmp_path, "b", textures(2, 6, 1))
    kept = [f"a,{tile},{int(tile != 2)},why" for tile in range(4)] + [f"b,{tile},1,why" for tile in range(2)]
    (tmp_path / "dedup.csv").write_text("\n".join(["source,tile,kept,reason", *kept]) + "\n")
    return TileSet(tmp_path)


def test_order_is_random_and_only_lengthens(folder: TileSet) -> None:
    every = LabelSession(folder, 99, 3).order
    assert sorted(every) == [("a", 0), ("a", 1), ("a", 3), ("b", 0), ("b", 1)]
    assert LabelSession(folder, 3, 3).order == every[:3]
    assert any(LabelSession(folder, 99, seed).order != every for seed in range(3))


def test_labels_survive_the_session(folder: TileSet) -> None:
    session = LabelSession(folder, 4, 0)
    first, second, third, last = session.order
    session.record(first, "informative")
    session.record(second, "uninformative")
    session.record(third, "informative")
    session.record(first, "uninformative")
    # The last label was that of the first tile.
    session.undo()
    again = LabelSession(folder, 4, 0)
    assert again.labels == {second: "uninformative", third: "informative"}
    assert again.upcoming() == [first, last]
    assert again.upcoming(1) == [first]
    state = again.state()
    assert (state["done"], state["number"]) == (2, 4)
    assert state["counts"] == {"informative": 1, "uninformative": 1}
    assert state["upcoming"] == [{"source": source, "tile": tile} for source, tile in (first, last)]


def test_pictures_are_the_tiles(folder: TileSet) -> None:
    picture = Image.open(io.BytesIO(LabelSession(folder, 1, 0).picture(("b", 1))))
    np.testing.assert_array_equal(np.asarray(picture), textures(2, 6, 1)[1])


def test_invalid_labels_and_tiles_are_refused(folder: TileSet) -> None:
    session = LabelSession(folder, 5, 0)
    with pytest.raises(UserError, match="'blurred' is no label"):
        session.record(("a", 0), "blurred")
    for key in (("a", 4), ("a", -1), ("c", 0)):
        with pytest.raises(UserError, match="there is no tile"):
            session.record(key, "informative")
    assert not session.path.exists()
    for number, seed in ((0, 0), (1, -1)):
        with pytest.raises(UserError, match="at least 1, and at least 0"):
            LabelSession(folder, number, seed)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("source,label\na,informative\n", "has no column tile"),
        ("source,tile,label\na,0,blurred\n", "line 2 is no label"),
        ("source,tile,label\na,9,informative\n", "line 2 is of tile 9 of 'a'"),
    ],
)
def test_damaged_tables_are_refused(folder: TileSet, table: str, message: str) -> None:
    (folder.path / "labels.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        LabelSession(folder, 5, 0)
