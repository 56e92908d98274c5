"""Stitched classes against a dense float64 reference: the most probable class and the probability of a foreground."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_modules.geometry import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.stitching import Blend, StitchedRows, SweepStitcher
from tests.support.dense_reference import BLENDS, CPU, weights_of

GRID = Grid((61, 45), (16, 16), 0.5)
TILES = list(GRID)
UNSURE = 1e-6
"""Difference of the two most probable classes from which on single precision must decide as double does."""


def tile_at(origin: Shape, tile: Shape, classes: int) -> NDArray[np.float32]:
    """Softmax of noise that differs from tile to tile, ``(classes, *tile)``."""
    noise = np.random.default_rng([at + 1 for at in origin]).normal(0, 2, (classes, *tile))
    shares: NDArray[np.float32] = (np.exp(noise) / np.exp(noise).sum(axis=0)).astype(np.float32)
    return shares


def dense(grid: Grid, blend: Blend, classes: int) -> NDArray[np.float64]:
    """Blended probabilities, ``(classes, *shape)``."""
    padded = tuple(max(side, tile) for side, tile in zip(grid.shape, grid.tile, strict=True))
    total, norm = np.zeros((classes, *padded)), np.zeros(padded)
    weights = weights_of(grid.tile, blend)
    for origin in grid:
        where = tuple(slice(at, at + tile) for at, tile in zip(origin, grid.tile, strict=True))
        total[(slice(None), *where)] += weights * tile_at(origin, grid.tile, classes)
        norm[where] += weights
    blended: NDArray[np.float64] = (total / norm)[(slice(None), *(slice(0, side) for side in grid.shape))]
    return blended


def stream(
    sweep: Sweep, blend: Blend, classes: int, broken: dict[Shape, float] | None = None
) -> Iterator[StitchedRows]:
    stitcher = SweepStitcher(sweep, blend, CPU, classes)
    for span in sweep.spans:
        tile = sweep.grids[span.mosaic].tile
        for origins in sweep.runs(span):
            tiles = np.stack([tile_at(origin, tile, classes) for origin in origins])
            for index, origin in enumerate(origins):
                if broken and origin in broken:
                    # Of one class only.
                    tiles[(index, classes - 1, *(side // 2 - 1 for side in tile))] = broken[origin]
            yield from stitcher.add(origins, torch.from_numpy(tiles))


def maps(found: list[StitchedRows]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    classes = [rows.classes for rows in found if rows.classes is not None]
    assert len(classes) == len(found)
    assert all(rows.classes is not None and rows.classes.dtype == torch.uint8 for rows in found)
    return torch.cat([rows.probability for rows in found]).numpy(), torch.cat(classes).numpy()


def assert_stream_is_dense(grid: Grid, blend: Blend, classes: int, batch_size: int) -> None:
    found = list(stream(Sweep((grid,), (RowSpan(0, 0, grid.shape[0]),), batch_size), blend, classes))
    probability, chosen = maps(found)
    expected = dense(grid, blend, classes)
    first, second = np.sort(expected, axis=0)[[-1, -2]]
    sure = first - second >= UNSURE
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(chosen[sure], expected.argmax(axis=0)[sure])
    levels = 255 * (1 - expected[0])
    clear = np.abs(levels % 1 - 0.5) > 1e-3
    np.testing.assert_array_equal(probability[clear], np.round(levels[clear]).astype(np.uint8))
    assert np.abs(probability - levels).max() <= 0.501
    assert all(rows.invalid is None and rows.failed == () for rows in found)


@example((61, 70), 16, 0.5, "gaussian", 3, 3)
@example((70, 45), 21, 0.8, "cosine", 5, 4)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    tile=st.sampled_from([8, 16, 21]),
    overlap=st.floats(0, 0.8),
    blend=st.sampled_from(BLENDS),
    classes=st.integers(2, 5),
    batch_size=st.integers(1, 4),
)
def test_stream_equals_dense_in_2d(
    shape: tuple[int, int], tile: int, overlap: float, blend: Blend, classes: int, batch_size: int
) -> None:
    assert_stream_is_dense(Grid(shape, (tile, tile), overlap), blend, classes, batch_size)


@given(
    shape=st.tuples(st.integers(1, 14), st.integers(1, 24), st.integers(1, 24)),
    tile=st.sampled_from([(1, 12, 10), (4, 12, 10), (8, 8, 8)]),
    overlap=st.floats(0, 0.6),
    blend=st.sampled_from(BLENDS),
)
def test_stream_equals_dense_in_3d(shape: Shape, tile: Shape, overlap: float, blend: Blend) -> None:
    assert_stream_is_dense(Grid(shape, tile, overlap), blend, 3, 2)


@example(90, {1, 16, 40, 41}, 0.8, "gaussian")
@given(
    height=st.integers(2, 90),
    cuts=st.sets(st.integers(1, 89), max_size=4),
    overlap=st.sampled_from([0.0, 0.5, 0.8]),
    blend=st.sampled_from(BLENDS),
)
def test_several_spans_give_the_same_bytes_as_one(height: int, cuts: set[int], overlap: float, blend: Blend) -> None:
    grid = Grid((height, 37), (16, 16), overlap)
    whole = maps(list(stream(Sweep((grid,), (RowSpan(0, 0, height),), 3), blend, 3)))
    ends = [0, *sorted(cut for cut in cuts if cut < height), height]
    spans = tuple(RowSpan(0, *pair) for pair in itertools.pairwise(ends))
    # As several ranks, each with a stitcher of its own, and as one that goes through all spans.
    of_ranks = [list(stream(Sweep((grid,), (span,), 3), blend, 3)) for span in spans]
    for found in ([rows for each in of_ranks for rows in each], list(stream(Sweep((grid,), spans, 3), blend, 3))):
        for mine, theirs in zip(maps(found), whole, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_certain_tiles_and_equal_classes() -> None:
    grid = Grid((16, 24), (16, 16), 0.5)
    tiles = torch.zeros(2, 3, 16, 16)
    tiles[:, 0, :4] = 1
    tiles[:, 2, 4:8] = 1
    # Equals: the first of them.
    tiles[:, 1:, 8:] = 0.5
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 16),), 2), "gaussian", CPU, 3)
    probability, classes = maps(list(stitcher.add([(0, 0), (0, 8)], tiles)))
    assert (probability[:4] == 0).all()
    assert (probability[4:] == 255).all()
    assert [np.unique(rows).tolist() for rows in np.split(classes, [4, 8])] == [[0], [2], [1]]


@example({TILES[0]: math.nan, TILES[7]: math.inf, TILES[-1]: -math.inf}, {9, 24, 60})
@given(
    picks=st.dictionaries(st.sampled_from(TILES), st.sampled_from([math.nan, math.inf, -math.inf]), max_size=5),
    cuts=st.sets(st.integers(1, 60), max_size=3),
)
def test_only_footprints_of_non_finite_tiles_change(picks: dict[Shape, float], cuts: set[int]) -> None:
    clean = maps(list(stream(Sweep((GRID,), (RowSpan(0, 0, 61),), 2), "gaussian", 3)))
    expected = np.zeros(GRID.shape, bool)
    for y, x in picks:
        expected[y : y + 16, x : x + 16] = True
    found: list[StitchedRows] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 61]):
        of_rank = list(stream(Sweep((GRID,), (RowSpan(0, start, stop),), 2), "gaussian", 3, picks))
        seen = [origin for origin in picks if origin[0] < stop and origin[0] + 16 > start]
        assert sorted(origin for rows in of_rank for origin in rows.failed) == sorted(seen)
        found += of_rank
    marks = [torch.zeros_like(r.probability, dtype=torch.bool) if r.invalid is None else r.invalid for r in found]
    np.testing.assert_array_equal(torch.cat(marks).numpy(), expected)
    probability, classes = maps(found)
    np.testing.assert_array_equal(probability, np.where(expected, 0, clean[0]))
    np.testing.assert_array_equal(classes[~expected], clean[1][~expected])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tiles_are_blended_in_single_precision(dtype: torch.dtype) -> None:
    grid = Grid((40, 40), (16, 16), 0.5)
    tile = torch.tensor([0.3, 0.34, 0.36], dtype=dtype)[None, :, None, None].expand(1, 3, 16, 16)
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 40),), 1), "gaussian", CPU, 3)
    probability, classes = maps([rows for origin in grid for rows in stitcher.add([origin], tile)])
    assert (classes == 2).all()
    assert (probability == round(255 * (1 - float(tile[0, 0, 0, 0])))).all()
