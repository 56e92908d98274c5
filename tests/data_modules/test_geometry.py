"""Tiling geometry, checked by painting every tile into a counting array."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.geometry import Grid, RowSpan, Sweep, is_isotropic, rows_left, share_rows

_OVERLAPS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]), st.floats(0, 0.99))


@st.composite
def grids(draw: st.DrawFn, fewest_axes: int = 1) -> Grid:
    axes = draw(st.integers(fewest_axes, 3))
    # Tiles larger than the array are wanted too: they are padded later.
    longest = {1: 300, 2: 40, 3: 14}[axes]
    shape = tuple(draw(st.integers(1, longest)) for _ in range(axes))
    tile = tuple(draw(st.integers(1, longest + 5)) for _ in range(axes))
    return Grid(shape, tile, draw(_OVERLAPS))


@given(grids())
@example(Grid((1,), (1,)))
@example(Grid((5,), (4,), 0.5))
@example(Grid((8, 7), (4, 7), 0.75))
def test_tiles_cover_and_owned_parts_partition_arrays(grid: Grid) -> None:
    covered, owned = np.zeros(grid.shape, int), np.zeros(grid.shape, int)
    for origin in grid:
        covered[tuple(slice(o, o + side) for o, side in zip(origin, grid.tile, strict=True))] += 1
        owned[grid.owned(origin)] += 1
    assert covered.min() >= 1
    assert (owned == 1).all()


@given(grids())
@example(Grid((5,), (4,), 0.5))
@example(Grid((4, 3), (4, 4), 0.5))
def test_tiles_lie_inside_and_own_visible_pixels(grid: Grid) -> None:
    for origin in grid:
        for first, side, length, part in zip(origin, grid.tile, grid.shape, grid.owned(origin), strict=True):
            assert first <= part.start < part.stop <= min(first + side, length)
            assert first == 0 if length <= side else 0 <= first <= length - side


@given(grids(), st.integers(0, 10_000))
def test_the_owner_sees_most_around_its_pixel(grid: Grid, pick: int) -> None:
    """Of the tiles that see a pixel, its owner has it farthest from the tile's edges, ties and borders apart."""
    starts, tile, length = grid.starts[0], grid.tile[0], grid.shape[0]
    pixel = pick % length
    line = Grid((length,), (tile,), grid.overlap)
    (owner,) = [start for start in starts if line.owned((start,))[0].start <= pixel < line.owned((start,))[0].stop]

    def margin(start: int) -> int:
        # The array's own border is no edge: nobody sees past it.
        before = pixel - start if start > 0 else length
        after = start + tile - 1 - pixel if start + tile < length else length
        return min(before, after)

    best = max(margin(start) for start in starts if start <= pixel < start + tile)
    assert margin(owner) >= best - 1


def test_the_mosaics_of_urisc() -> None:
    assert starts(9958, 1024) == (*range(0, 9 * 1024, 1024), 9958 - 1024)
    assert 9 * 1024 + 742 == 9958
    grid = Grid((9958, 9959), (1024, 1024), 0.5)
    assert len(grid) == len(list(grid)) == 19 * 19 == 361
    assert [list(axis)[:2] for axis in grid.starts] == [[0, 512], [0, 512]]
    owned = [grid.owned(origin) for origin in grid]
    assert sum((y.stop - y.start) * (x.stop - x.start) for y, x in owned) == 9958 * 9959
    assert max(y.stop for y, _ in owned) == 9958
    assert max(x.stop for _, x in owned) == 9959


def test_a_shape_below_a_tile_is_one_tile() -> None:
    grid = Grid((5, 700), (1024, 512), 0.5)
    assert list(grid) == [(0, 0), (0, 188)]
    assert grid.owned((0, 0)) == (slice(0, 5), slice(0, 350))


def starts(length: int, tile: int, overlap: float = 0.0) -> tuple[int, ...]:
    """Origins along one axis."""
    return Grid((length,), (tile,), overlap).starts[0]


def test_lengths_of_whole_tiles_have_no_extra_tile() -> None:
    assert starts(512, 512) == (0,)
    assert starts(1024, 512) == (0, 512)
    assert starts(1025, 512) == (0, 512, 513)


@given(st.integers(1, 5000), st.floats(0, 0.999999))
def test_strides_lie_between_a_pixel_and_tile(tile: int, overlap: float) -> None:
    stride = starts(3 * tile + 2, tile, overlap)[1]
    assert 1 <= stride <= tile
    assert stride >= tile * (1 - overlap) - 1e-6


def test_a_stride_of_decimal_overlaps_is_exact() -> None:
    # 1000 × (1 − 0.9) is 99.99999999999997 or 100.00000000000001, according to how it is computed.
    assert [starts(9999, 1000, overlap)[1] for overlap in (0.1, 0.3, 0.6, 0.7, 0.9)] == [900, 700, 400, 300, 100]


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.5), (-1, 0.0), (8, 1.0), (8, -0.1), (8, math.nan)])
def test_impossible_strides_are_refused(tile: int, overlap: float) -> None:
    with pytest.raises(ValueError, match=r"tile must|overlap must"):
        Grid((100,), (tile,), overlap)


def test_tiles_of_other_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 axes"):
        Grid((5, 5, 5), (2, 2))


_SHAPES = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 50)), min_size=1, max_size=4)


@given(_SHAPES, st.integers(1, 64), st.integers(1, 9))
@example([(64, 5), (65, 5), (1, 5)], 32, 2)
@example([(10, 3)], 64, 3)
def test_ranks_share_rows_but_never_a_shard(shapes: list[tuple[int, ...]], align: int, world: int) -> None:
    counted = [np.zeros(shape[0], int) for shape in shapes]
    order: list[tuple[int, int]] = []
    for rank in range(world):
        spans = share_rows(shapes, [align] * len(shapes), rank, world)
        assert len({span.mosaic for span in spans}) == len(spans), "one stretch a mosaic"
        for span in spans:
            counted[span.mosaic][span.start : span.stop] += 1
            assert span.start < span.stop
            assert span.start % align == 0
            assert span.stop % align == 0 or span.stop == shapes[span.mosaic][0]
            order.append((span.mosaic, span.start))
    assert all((rows == 1).all() for rows in counted)
    assert order == sorted(order), "a rank's rows follow those of the rank before it"


@given(st.integers(1, 16))
def test_ranks_get_equal_work_where_shards_allow(world: int) -> None:
    shares = [share_rows([(16 * 32, 100)], [32], rank, world) for rank in range(world)]
    rows = [sum(span.stop - span.start for span in share) for share in shares]
    assert max(rows) - min(rows) <= 32


@given(grids(fewest_axes=2), st.integers(1, 7), st.data())
def test_a_sweep_runs_the_tiles_touching_its_span(grid: Grid, batch: int, data: st.DataObject) -> None:
    for start, stop in data.draw(st.lists(row_spans(grid), min_size=4, max_size=4)):
        check_runs(grid, batch, start, stop)


@st.composite
def row_spans(draw: st.DrawFn, grid: Grid) -> tuple[int, int]:
    """First row and the row to end before, mostly where tiles begin and end."""
    length, tile = grid.shape[0], grid.tile[0]
    edges = sorted({min(row, length) for first in grid.starts[0] for row in (first, first + tile)} | {0, length})
    rows = st.one_of(st.sampled_from(edges), st.sampled_from(edges), st.integers(0, length))
    start, stop = sorted(draw(st.lists(rows, min_size=2, max_size=2, unique=True)))
    return start, stop


def check_runs(grid: Grid, batch: int, start: int, stop: int) -> None:
    span = RowSpan(0, start, stop)
    runs = list(Sweep((grid,), (span,), batch).runs(span))
    tiles = [origin for run in runs for origin in run]
    rows = set(range(start, stop))
    assert tiles == [origin for origin in grid if rows & set(range(origin[0], origin[0] + grid.tile[0]))]
    for run in runs:
        assert 1 <= len(run) <= batch
        assert len({origin[:-1] for origin in run}) == 1, "a batch never mixes rows"
    # Whoever computes a row computes the same batches, so that ranks and resumed runs agree to the bit.
    whole = list(Sweep((grid,), (), batch).runs(RowSpan(0, 0, grid.shape[0])))
    assert runs == [run for run in whole if run[0] in set(tiles)]


def test_runs_of_a_volume_stay_in_one_line() -> None:
    grid = Grid((8, 20, 20), (8, 10, 10))
    runs = list(Sweep((grid,), (), 3).runs(RowSpan(0, 0, 8)))
    assert runs == [((0, y, 0), (0, y, 10)) for y in (0, 10)]


@given(
    st.integers(1, 60),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_rows_left_are_those_not_done(length: int, mine: list[bool], done: list[bool]) -> None:
    def spans(flags: list[bool]) -> list[tuple[int, int]]:
        edges = np.flatnonzero(np.diff([0, *flags[:length], 0]))
        return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    left = rows_left([RowSpan(1, *span) for span in spans(mine)], [[(0, 99)], spans(done)])
    rows = [row for span in left for row in range(span.start, span.stop)]
    assert rows == [row for row in range(length) if mine[row] and not done[row]]
    assert all(span.mosaic == 1 and span.start < span.stop for span in left)


@pytest.mark.parametrize(
    ("size", "even"),
    [((4, 4, 4), True), ((5.0, 4.2, 4.2), True), ((40.0, 4.0, 4.0), False), ((4.7, 4, 4), True), ((4.8, 4, 4), False),
     ((3.3, 4, 4), True), ((3.2, 4, 4), False), ((5, 5, 4), False), ((5, 6.25, 6.25), False), ((9.6, 8, 8), False),
     ((4, 4), False), (None, False)],
)  # fmt: skip
def test_isotropic_means_z_within_a_fifth(size: tuple[float, ...] | None, even: bool) -> None:
    assert is_isotropic(size) == even
