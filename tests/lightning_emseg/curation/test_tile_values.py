"""Numbers of tiles are kept, and made again only where they are missing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_modules.tile_set import SourceTiles, TileSet
from lightning_emseg.curation.tile_values import TileValues
from tests.support.tile_sets import write_source

Tile = NDArray[np.uint8]
LEVELS = np.arange(14) * 10
"""Grey level of each tile, which is even."""


@pytest.fixture
def folder(tmp_path: Path) -> TileSet:
    write_source(tmp_path, "grey", np.broadcast_to(LEVELS.astype(np.uint8)[:, None, None], (14, 224, 224)))
    return TileSet(tmp_path)


@pytest.fixture
def source(folder: TileSet) -> SourceTiles:
    return folder.sources()[0]


def test_known_values_are_reused_for_one_stamp(source: SourceTiles, folder: TileSet) -> None:
    asked: list[int] = []

    def mean(tiles: Sequence[Tile]) -> NDArray[np.float32]:
        asked.append(len(tiles))
        return np.array([[tile.mean()] for tile in tiles], np.float32)

    some = np.arange(14) < 4
    first = TileValues(folder, "means", "a", 1, mean).of(source, some)
    assert np.allclose(first[:4, 0], LEVELS[:4])
    assert np.isnan(first[4:]).all()
    told: list[int] = []
    everything = TileValues(folder, "means", "a", 1, mean).of(source, ~some | some, told.append)
    assert np.allclose(everything[:, 0], LEVELS)
    assert (asked, told) == ([4, 10], [4, 10])
    TileValues(folder, "means", "b", 1, mean).of(source, some)
    assert asked == [4, 10, 4]


def test_interrupted_source_resumes_after_its_last_batch(source: SourceTiles, folder: TileSet) -> None:
    asked: list[int] = []

    def interrupted(tiles: Sequence[Tile]) -> NDArray[np.float32]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        return means(tiles)

    def means(tiles: Sequence[Tile]) -> NDArray[np.float32]:
        asked.append(len(tiles))
        return np.array([[tile.mean()] for tile in tiles], np.float32)

    every = np.ones(14, np.bool_)
    with pytest.raises(KeyboardInterrupt):
        TileValues(folder, "broken", "a", 1, interrupted, batch=4, save_every_s=0).of(source, every)
    found = TileValues(folder, "broken", "a", 1, means, batch=4).of(source, every)
    assert asked == [4, 4, 4, 2]
    assert np.allclose(found[:, 0], LEVELS)
