"""NaN and infinity in a tile: its whole footprint is marked, and no other pixel changes."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_modules.geometry import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.stitching import StitchedRows, SweepStitcher
from tests.support.dense_reference import CPU, stream

GRID = Grid((61, 45), (16, 16), 0.5)
TILES = list(GRID)


def _footprints(grid: Grid, origins: list[Shape]) -> NDArray[np.bool_]:
    marked = np.zeros(grid.shape, bool)
    for origin in origins:
        marked[tuple(slice(at, at + side) for at, side in zip(origin, grid.tile, strict=True))] = True
    return marked


def _maps(found: list[StitchedRows]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    probability = torch.cat([rows.probability for rows in found]).numpy()
    invalid = [torch.zeros_like(r.probability, dtype=torch.bool) if r.invalid is None else r.invalid for r in found]
    return probability, torch.cat(invalid).numpy()


@example({TILES[0]: math.nan, TILES[7]: math.inf, TILES[-1]: -math.inf}, {9, 24, 60}, 3)
@given(
    picks=st.dictionaries(st.sampled_from(TILES), st.sampled_from([math.nan, math.inf, -math.inf]), max_size=5),
    cuts=st.sets(st.integers(1, 60), max_size=3),
    batch_size=st.integers(1, 4),
)
def test_only_footprints_of_non_finite_tiles_change(picks: dict[Shape, float], cuts: set[int], batch_size: int) -> None:
    whole = Sweep((GRID,), (RowSpan(0, 0, 61),), batch_size)
    clean, _ = _maps(list(stream(whole, "gaussian")))
    expected = _footprints(GRID, list(picks))
    found: list[StitchedRows] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 61]):
        # As several ranks would: each marks by itself.
        of_rank = list(stream(Sweep((GRID,), (RowSpan(0, start, stop),), batch_size), "gaussian", picks))
        seen = [origin for origin in picks if origin[0] < stop and origin[0] + 16 > start]
        assert sorted(origin for rows in of_rank for origin in rows.failed) == sorted(seen)
        found += of_rank
    probability, invalid = _maps(found)
    np.testing.assert_array_equal(invalid, expected)
    np.testing.assert_array_equal(probability, np.where(expected, 0, clean))
    for rows in found:
        assert rows.invalid is None or rows.invalid.any()


@pytest.mark.parametrize("origin", [TILES[0], (8, 16), TILES[-1]])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_failed_tiles_are_told_before_their_rows(origin: Shape, value: float) -> None:
    # The broken pixel of (8, 16) comes out with the rows from 8 on, but the tile straddles two emissions.
    found = list(stream(Sweep((GRID,), (RowSpan(0, 0, 61),), 2), "constant", {origin: value}))
    (first,) = [rows for rows in found if rows.failed]
    assert first.failed == (origin,)
    assert first.start == origin[0]
    marked = [rows.start for rows in found if rows.invalid is not None]
    assert marked == [rows.start for rows in found if origin[0] <= rows.start < origin[0] + 16]


@pytest.mark.parametrize(("pixel", "marked"), [((4, 6), True), ((12, 12), False)])
def test_only_what_lies_in_the_mosaic_counts(pixel: tuple[int, int], marked: bool) -> None:
    grid = Grid((5, 7), (16, 16))
    stitcher = SweepStitcher(Sweep((grid,), (RowSpan(0, 0, 5),), 1), "constant", CPU)
    tile = torch.full((1, 16, 16), 0.6)
    tile[(0, *pixel)] = math.nan
    (rows,) = stitcher.add([(0, 0)], tile)
    assert (rows.invalid is not None) == marked
    assert rows.failed == (((0, 0),) if marked else ())
    assert rows.probability.shape == (5, 7)
    assert (rows.probability == (0 if marked else 153)).all()


def test_volumes() -> None:
    grid = Grid((9, 20, 33), (4, 16, 16), 0.5)
    broken = (2, 4, 8)
    assert broken in list(grid)
    found = list(stream(Sweep((grid,), (RowSpan(0, 0, 9),), 2), "cosine", {broken: math.nan}))
    probability, invalid = _maps(found)
    np.testing.assert_array_equal(invalid, _footprints(grid, [broken]))
    assert (probability[invalid] == 0).all()


def test_a_later_mosaic_is_not_touched() -> None:
    sweep = Sweep((GRID, GRID), (RowSpan(0, 0, 61), RowSpan(1, 0, 61)), 3)
    stitcher = SweepStitcher(sweep, "constant", CPU)
    found = []
    for span in sweep.spans:
        for origins in sweep.runs(span):
            value = math.nan if span.mosaic == 0 else 0.6
            found += list(stitcher.add(origins, torch.full((len(origins), 16, 16), value)))
    assert all((rows.invalid is None) == (rows.mosaic == 1) for rows in found)
    assert all((rows.probability == 153 * rows.mosaic).all() for rows in found)
