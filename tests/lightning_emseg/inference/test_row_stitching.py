"""The streaming stitcher against a dense reference that holds every tile."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.grid import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.blending import Blend
from lightning_emseg.inference.stitching import StitchedRows, SweepStitcher

BLENDS: tuple[Blend, ...] = ("constant", "cosine", "gaussian")
CPU = torch.device("cpu")


def _tile(origin: Shape, shape: Shape) -> NDArray[np.float32]:
    """A tile's prediction depends on the tile, as a network's does, so that overlaps disagree."""
    values: NDArray[np.float32] = np.random.default_rng([at + 1 for at in origin]).random(shape, dtype=np.float32)
    return values


def _stream(sweep: Sweep, blend: Blend) -> Iterator[StitchedRows]:
    stitcher = SweepStitcher(sweep, blend, CPU)
    for span in sweep.spans:
        for run in sweep.runs(span):
            tile = sweep.grids[span.mosaic].tile
            tiles = torch.from_numpy(np.stack([_tile(origin, tile) for origin in run.origins]))
            yield from stitcher.add(run.origins, tiles)


def _weights_1d(tile: int, blend: Blend) -> NDArray[np.float64]:
    at = np.arange(tile) - (tile - 1) / 2
    weights: dict[str, NDArray[np.float64]] = {
        "constant": np.ones(tile),
        "cosine": np.cos(math.pi * at / tile) ** 2,
        "gaussian": np.exp(-(at**2) / (2 * (tile / 8) ** 2)),
    }
    return weights[blend]


def _dense(grid: Grid, blend: Blend) -> NDArray[np.float64]:
    """Weighted mean of all tiles in float64, over the mosaic padded to at least one tile."""
    padded = tuple(max(side, tile) for side, tile in zip(grid.shape, grid.tile, strict=True))
    total, norm = np.zeros(padded), np.zeros(padded)
    weights = np.ones(())
    for tile in grid.tile:
        weights = np.multiply.outer(weights, _weights_1d(tile, blend))
    for origin in grid:
        where = tuple(slice(at, at + tile) for at, tile in zip(origin, grid.tile, strict=True))
        total[where] += weights * _tile(origin, grid.tile)
        norm[where] += weights
    blended: NDArray[np.float64] = (total / norm)[tuple(slice(0, side) for side in grid.shape)]
    return blended


def _check(grid: Grid, blend: Blend, batch_size: int) -> None:
    sweep = Sweep((grid,), (RowSpan(0, 0, grid.shape[0]),), batch_size)
    found = list(_stream(sweep, blend))
    # Every row once, in order.
    starts = [rows.start for rows in found]
    ends = [rows.start + len(rows.probability) for rows in found]
    assert starts == [0, *ends[:-1]]
    assert ends[-1] == grid.shape[0]
    assert [rows.last for rows in found] == [False] * (len(found) - 1) + [True]
    whole = torch.cat([rows.probability for rows in found]).numpy()
    assert whole.dtype == np.uint8
    expected = _dense(grid, blend) * 255
    # Half a level of rounding, and what single precision adds.
    assert np.abs(whole - expected).max() <= 0.5 + 1e-3


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 75), st.integers(1, 75)),
    tile=st.sampled_from([8, 16, 21]),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.66, 0.75, 0.9]),
    blend=st.sampled_from(BLENDS),
    batch_size=st.integers(1, 5),
)
def test_stream_equals_dense_in_2d(
    shape: tuple[int, int], tile: int, overlap: float, blend: Blend, batch_size: int
) -> None:
    _check(Grid(shape, (tile, tile), overlap), blend, batch_size)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 14), st.integers(1, 30), st.integers(1, 30)),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.75]),
    blend=st.sampled_from(BLENDS),
    batch_size=st.integers(1, 4),
)
def test_stream_equals_dense_in_3d(shape: tuple[int, int, int], overlap: float, blend: Blend, batch_size: int) -> None:
    _check(Grid(shape, (4, 12, 10), overlap), blend, batch_size)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(2, 90),
    cuts=st.sets(st.integers(1, 89), max_size=4),
    overlap=st.sampled_from([0.0, 0.5, 0.8]),
    blend=st.sampled_from(BLENDS),
)
def test_several_spans_give_the_same_bits_as_one(height: int, cuts: set[int], overlap: float, blend: Blend) -> None:
    grid = Grid((height, 37), (16, 16), overlap)
    whole = torch.cat(
        [rows.probability for rows in _stream(Sweep((grid,), (RowSpan(0, 0, height),), 3), blend)]
    ).numpy()
    ends = [0, *sorted(cut for cut in cuts if cut < height), height]
    for start, stop in itertools.pairwise(ends):
        found = list(_stream(Sweep((grid,), (RowSpan(0, start, stop),), 3), blend))
        assert found[0].start == start
        np.testing.assert_array_equal(torch.cat([rows.probability for rows in found]).numpy(), whole[start:stop])


def test_one_stitcher_goes_through_all_spans_of_all_mosaics() -> None:
    grids = (Grid((30, 20), (16, 16), 0.5), Grid((5, 40), (16, 16), 0.5), Grid((33, 16), (16, 16), 0.5))
    spans = (RowSpan(0, 8, 30), RowSpan(1, 0, 5), RowSpan(2, 0, 20))
    found = list(_stream(Sweep(grids, spans, 2), "gaussian"))
    for span in spans:
        of_mosaic = [rows for rows in found if rows.mosaic == span.mosaic]
        assert sum(len(rows.probability) for rows in of_mosaic) == span.stop - span.start
        assert of_mosaic[-1].last
        expected = _dense(grids[span.mosaic], "gaussian")[span.start : span.stop] * 255
        whole = torch.cat([rows.probability for rows in of_mosaic]).numpy()
        assert np.abs(whole - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_output_that_is_not_finite_is_an_error_that_names_the_rows(value: float) -> None:
    sweep = Sweep((Grid((32, 16), (16, 16)),), (RowSpan(0, 0, 32),), 1)
    stitcher = SweepStitcher(sweep, "constant", CPU)
    tile = torch.zeros(1, 16, 16)
    list(stitcher.add([(0, 0)], tile))
    tile[0, 3, 3] = value
    with pytest.raises(UserError, match="not finite in rows 16–32 of mosaic 0"):
        list(stitcher.add([(16, 0)], tile))


def test_stream_holds_one_row_of_tiles() -> None:
    # A first batch that finishes nothing gives nothing; the next row of tiles releases what it does not touch.
    grid = Grid((64, 16), (16, 16), 0.5)
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 64),), 1), "constant", CPU)
    assert list(stitcher.add([(0, 0)], torch.ones(1, 16, 16))) == []
    (rows,) = stitcher.add([(8, 0)], torch.ones(1, 16, 16))
    assert (rows.start, len(rows.probability)) == (0, 8)
