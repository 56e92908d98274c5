"""Statistics of tiles whose answer is known."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from data_modules.tile_set import SourceTiles, TileSet
from lightning_emseg.curation.statistics import WINDOW_PX, TileValues, statistics, uniform_share
from tests.support.tile_sets import write_source

Tile = NDArray[np.uint8]


def noise(std: float = 20) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    return np.clip(np.rint(random.normal(120, std, (224, 224))), 0, 255).astype(np.uint8)


@given(st.integers(0, 255))
def test_constant_tile_has_no_entropy_or_edges(level: int) -> None:
    _, entropy, mean, edges = statistics(np.full((112, 130), level, np.uint8)).tolist()
    assert (entropy, edges) == (0, 0)
    # scikit-image's geometric mean is of grey + 1, and is rounded.
    assert abs(mean - level) <= 1


def test_step_tile_has_known_statistics() -> None:
    tile = np.full((200, 224), 40, np.uint8)
    tile[:, 100:] = 200
    _, entropy, mean, edges = statistics(tile).tolist()
    # One column of pixels, less those near the ends that Canny may lose.
    assert edges == pytest.approx(1 / 224, rel=0.05)
    assert abs(mean - 200) <= 1
    # Windows of 7 px cross the step in 6 columns, with 1 … 6 of 7 columns on one side.
    bits = [-sum(p * math.log2(p) for p in (k / 7, 1 - k / 7)) for k in range(1, 7)]
    assert entropy == pytest.approx(np.std(bits + [0.0] * (224 - 6)), rel=0.05)


def test_local_binary_patterns_match_their_definition() -> None:
    tile = noise()
    rows, columns = np.mgrid[:224, :224].astype(np.float64)
    code = np.zeros((224, 224))
    for bit in range(8):
        angle = 2 * math.pi * bit / 8
        places = [rows - round(8 * math.sin(angle), 5), columns + round(8 * math.cos(angle), 5)]
        code += 2.0**bit * (map_coordinates(tile.astype(np.float64), places, order=1, mode="grid-constant") >= tile)
    assert statistics(tile)[0] == pytest.approx(code.std(), rel=0.01)


@pytest.mark.parametrize("uniform", [0, 50, 180, 224])
def test_uniform_columns_count_up_to_half_window(uniform: int) -> None:
    tile = noise()
    tile[:, :uniform] = 90
    lost = WINDOW_PX // 2 if 0 < uniform < 224 else 0
    assert uniform_share(tile, 2.0) == pytest.approx((uniform - lost) / 224, abs=1e-3)


def test_neighbourhoods_are_compared_by_their_deviation() -> None:
    tile = noise(std=5)
    assert uniform_share(tile, 3.0) == 0
    assert uniform_share(tile, 8.0) == 1
    assert uniform_share(np.full((112, 112), 7, np.uint8), 0.1) == 1
    # 0 is no rule: nothing deviates by less.
    assert uniform_share(np.full((112, 112), 7, np.uint8), 0.0) == 0


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
