"""The streaming stitcher against a dense reference that holds every tile."""

import itertools

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.geometry import Grid, RowSpan, Sweep
from lightning_emseg.inference.stitching import Blend, SweepStitcher
from tests.support.dense_reference import BLENDS, CPU, SINGLE, dense, stream


def _assert_stream_is_dense(grid: Grid, blend: Blend, batch_size: int) -> None:
    sweep = Sweep((grid,), (RowSpan(0, 0, grid.shape[0]),), batch_size)
    found = list(stream(sweep, blend))
    # Every row once, in order.
    starts = [rows.start for rows in found]
    ends = [rows.start + len(rows.probability) for rows in found]
    assert starts == [0, *ends[:-1]]
    assert ends[-1] == grid.shape[0]
    assert [rows.last for rows in found] == [False] * (len(found) - 1) + [True]
    assert all(rows.invalid is None and rows.failed == () for rows in found)
    whole = torch.cat([rows.probability for rows in found]).numpy()
    assert whole.dtype == np.uint8
    expected, overlapping = dense(grid, blend)
    levels = expected * 255
    # Equal to the rounded reference, except where the reference itself all but lies on a half.
    near_half = np.abs(levels % 1 - 0.5) <= max(1e-4, 255 * (overlapping + 2) * SINGLE)
    np.testing.assert_array_equal(whole[~near_half], np.round(levels[~near_half]).astype(np.uint8))
    assert np.abs(whole - levels).max() <= 0.5 + 255 * (overlapping + 2) * SINGLE


@example((75, 61), 16, 0.5, "gaussian", 3)
@example((70, 75), 21, 0.9, "cosine", 5)
@example((5, 40), 8, 0.0, "constant", 2)
@given(
    shape=st.tuples(st.integers(1, 75), st.integers(1, 75)),
    tile=st.sampled_from([8, 16, 21]),
    overlap=st.floats(0, 0.93),
    blend=st.sampled_from(BLENDS),
    batch_size=st.integers(1, 5),
)
def test_stream_equals_dense_in_2d(
    shape: tuple[int, int], tile: int, overlap: float, blend: Blend, batch_size: int
) -> None:
    _assert_stream_is_dense(Grid(shape, (tile, tile), overlap), blend, batch_size)


@example((13, 29, 30), 0.5, "gaussian", 2)
@given(
    shape=st.tuples(st.integers(1, 14), st.integers(1, 30), st.integers(1, 30)),
    overlap=st.floats(0, 0.8),
    blend=st.sampled_from(BLENDS),
    batch_size=st.integers(1, 4),
)
def test_stream_equals_dense_in_3d(shape: tuple[int, int, int], overlap: float, blend: Blend, batch_size: int) -> None:
    _assert_stream_is_dense(Grid(shape, (4, 12, 10), overlap), blend, batch_size)


def test_tiles_as_large_as_real_ones() -> None:
    grid = Grid((330, 1000), (200, 900), 0.5)
    found = torch.cat([rows.probability for rows in stream(Sweep((grid,), (RowSpan(0, 0, 330),), 2), "gaussian")])
    assert np.abs(found.numpy() - dense(grid, "gaussian")[0] * 255).max() <= 0.5 + 1e-3


@example(90, {1, 16, 40, 41}, 0.8, "gaussian")
@example(61, {8, 24, 53}, 0.5, "cosine")
@given(
    height=st.integers(2, 90),
    cuts=st.sets(st.integers(1, 89), max_size=4),
    overlap=st.sampled_from([0.0, 0.5, 0.8]),
    blend=st.sampled_from(BLENDS),
)
def test_several_spans_give_the_same_bits_as_one(height: int, cuts: set[int], overlap: float, blend: Blend) -> None:
    grid = Grid((height, 37), (16, 16), overlap)
    whole = torch.cat([rows.probability for rows in stream(Sweep((grid,), (RowSpan(0, 0, height),), 3), blend)]).numpy()
    ends = [0, *sorted(cut for cut in cuts if cut < height), height]
    for start, stop in itertools.pairwise(ends):
        found = list(stream(Sweep((grid,), (RowSpan(0, start, stop),), 3), blend))
        assert found[0].start == start
        np.testing.assert_array_equal(torch.cat([rows.probability for rows in found]).numpy(), whole[start:stop])


def test_one_stitcher_serves_all_spans_and_mosaics() -> None:
    grids = (Grid((30, 20), (16, 16), 0.5), Grid((5, 40), (16, 16), 0.5), Grid((33, 16), (16, 16), 0.5))
    spans = (RowSpan(0, 8, 30), RowSpan(1, 0, 5), RowSpan(2, 0, 20))
    found = list(stream(Sweep(grids, spans, 2), "gaussian"))
    for span in spans:
        of_mosaic = [rows for rows in found if rows.mosaic == span.mosaic]
        assert sum(len(rows.probability) for rows in of_mosaic) == span.stop - span.start
        assert of_mosaic[-1].last
        expected = dense(grids[span.mosaic], "gaussian")[0][span.start : span.stop] * 255
        whole = torch.cat([rows.probability for rows in of_mosaic]).numpy()
        assert np.abs(whole - expected).max() <= 0.5 + 1e-3


def test_half_precision_tiles_are_blended_in_single_precision() -> None:
    grid = Grid((40, 40), (16, 16), 0.5)
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 40),), 1), "gaussian", CPU)
    tile = torch.full((1, 16, 16), 0.7, dtype=torch.bfloat16)
    found = torch.cat([rows.probability for origin in grid for rows in stitcher.add([origin], tile)])
    assert (found == round(float(tile[0, 0, 0]) * 255)).all()


def test_tiles_are_left_as_they_came() -> None:
    grid = Grid((16, 16), (16, 16))
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 16),), 1), "gaussian", CPU)
    tiles = torch.rand(1, 16, 16)
    before = tiles.clone()
    list(stitcher.add([(0, 0)], tiles))
    assert torch.equal(tiles, before)


def test_stream_holds_one_row_of_tiles() -> None:
    # A first batch that finishes nothing gives nothing; the next row of tiles releases what it does not touch.
    grid = Grid((64, 16), (16, 16), 0.5)
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 64),), 1), "constant", CPU)
    assert list(stitcher.add([(0, 0)], torch.ones(1, 16, 16))) == []
    (rows,) = stitcher.add([(8, 0)], torch.ones(1, 16, 16))
    assert (rows.start, len(rows.probability)) == (0, 8)
