"""Blocks, grids, plans and random places of tiles."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.images.image import Image
from data_modules.tiling.cutting import (
    Reduction,
    Settings,
    TilePlan,
    blocks,
    choose_reduction,
    cut_plane,
    plan_source,
    random_places,
)

SIDES = st.integers(1, 700)


def unread(shape: tuple[int, int, int], **header: Any) -> Image:
    return Image("", "", shape, np.dtype(np.uint8), lambda region: np.zeros(0), **header)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 2000), st.integers(1, 900)),
    depth=st.integers(1, 70),
    z=st.integers(1, 3),
    lateral=st.integers(1, 3),
    block=st.integers(1, 10**6),
)
@example(shape=(1, 2000, 10), depth=1, z=1, lateral=1, block=3 * 224 * 10)
@example(shape=(40, 300, 7), depth=4, z=3, lateral=1, block=300 * 7 * 9)
def test_blocks_cover_volumes_and_cut_no_tile(
    shape: tuple[int, int, int], depth: int, z: int, lateral: int, block: int
) -> None:
    reduction = Reduction(min(z, shape[0]), lateral)
    covered = np.zeros(shape[:2], np.int64)
    small = np.zeros(reduction.shape(shape)[:2], np.int64)
    for region in blocks(unread(shape, depth=depth), reduction, block):
        covered[region[:2]] += 1
        assert region[2] == slice(0, shape[2])
        assert region[0].start % reduction.z == 0
        assert region[1].start % (224 * lateral) == 0
        size = math.prod(part.stop - part.start for part in region)
        assert size <= max(block, reduction.z * min(224 * lateral, shape[1]) * shape[2])
        small[reduction.region(region)[:2]] += 1
    assert (covered == 1).all()
    assert (small == 1).all()


def test_shrinking_is_the_mean_of_boxes() -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (5, 7, 9))
    small = Reduction(2, 3).apply(pixels)
    assert small.shape == Reduction(2, 3).shape((5, 7, 9)) == (2, 2, 3)
    assert small[1, 0, 2] == pytest.approx(pixels[2:4, 0:3, 6:9].mean())
    assert Reduction(2, 3).pixel_size((8.0, 4.0, 4.0)) == (16, 12, 12)
    assert Reduction(1, 3).pixel_size((4.0, 4.0)) == (12, 12)


@given(shape=st.tuples(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99)), limit=st.integers(1000, 50_000))
def test_the_smallest_factor_below_the_limit_is_taken(shape: tuple[int, int, int], limit: int) -> None:
    factor = choose_reduction(shape, False, limit).lateral
    assert math.prod(Reduction(1, factor).shape(shape)) <= limit
    assert factor == 1 or math.prod(Reduction(1, factor - 1).shape(shape)) > limit


@given(height=SIDES, width=SIDES)
def test_tiles_and_dropped_remainders_cover_a_plane_once(height: int, width: int) -> None:
    kept, dropped = cut_plane(height, width)
    covered = np.zeros((height, width), np.uint8)
    for y, x, rows, columns in (*kept.tolist(), *dropped.tolist()):
        covered[y : y + rows, x : x + columns] += 1
    assert (covered == 1).all()
    assert (kept[:, 2:] >= 112).all()
    assert (kept[:, 2:] <= 224).all()
    assert (dropped[:, 2:].min(axis=1, initial=111) < 112).all()
    assert (kept[:, :2] % 224 == 0).all()


@pytest.mark.parametrize(
    ("side", "tiles"), [(111, 0), (112, 1), (224, 1), (335, 1), (336, 2), (448, 2), (559, 2), (560, 3)]
)
def test_a_remainder_is_kept_from_112_px(side: int, tiles: int) -> None:
    assert len(cut_plane(224, side)[0]) == tiles == len(cut_plane(side, 224)[0])


def header(shape: tuple[int, int, int], size: tuple[float, ...] | None = None, frames: bool = False) -> Image:
    return unread(shape, pixel_size_nm=size, frames=frames)


@pytest.mark.parametrize(
    ("found", "stated", "planes"),
    [
        (header((300, 300, 300), (8.0, 8.0, 8.0)), None, 3),
        (header((300, 300, 300), (9.5, 8.0, 8.0)), None, 3),
        (header((300, 300, 300), (6.5, 8.0, 8.0)), None, 3),
        (header((300, 300, 300), (9.6, 8.0, 8.0)), None, 1),
        (header((300, 300, 300), (6.4, 8.0, 8.0)), None, 1),
        (header((300, 300, 300)), None, 1),
        (header((300, 300, 300)), (8.0,), 1),
        (header((300, 300, 300)), (8.0, 8.0, 8.0), 3),
        (header((300, 300, 300), (8.0, 8.0, 8.0)), (40.0, 4.0, 4.0), 1),
        (header((1, 300, 300), (8.0, 8.0)), (8.0, 8.0, 8.0), 1),
        (header((300, 300, 300), None, frames=True), (8.0, 8.0, 8.0), 1),
    ],
)
def test_three_planes_need_z_within_a_fifth(found: Image, stated: tuple[float, ...] | None, planes: int) -> None:
    assert len(plan_source(found, stated, Settings()).planes) == planes
    assert len(plan_source(found, None, Settings(pixel_size_nm=stated)).planes) == planes


def test_large_isotropic_volumes_are_shrunk_along_z_too() -> None:
    planned = plan_source(header((10, 300, 300), (8.0, 8.0, 8.0)), None, Settings(limit_px=300_000))
    assert (planned.shape, planned.pixel_size_nm) == ((5, 150, 150), (16, 16, 16))
    planned = plan_source(header((10, 300, 300), (40.0, 8.0, 8.0)), None, Settings(limit_px=300_000))
    assert (planned.shape, planned.pixel_size_nm) == ((10, 150, 150), (40, 16, 16))
    assert plan_source(header((1, 70_000, 80_000)), None, Settings()).shape == (1, 35_000, 40_000)
    assert plan_source(header((1, 70_000, 71_000)), None, Settings()).shape == (1, 70_000, 71_000)


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400)),
    number=st.integers(1, 60),
    seed=st.integers(0, 9),
    three=st.booleans(),
)
def test_random_places_are_different_and_inside(
    shape: tuple[int, int, int], number: int, seed: int, three: bool
) -> None:
    plan = TilePlan(("xy", "xz", "yz") if three else ("xy",), Reduction(), shape)
    places = random_places(plan, number, seed)
    assert len({tuple(place) for place in places.tolist()}) == len(places) <= number
    for plane, section, y, x, height, width in places.tolist():
        rows, columns = (side for axis, side in enumerate(shape) if axis != plane)
        assert (height, width) == (min(rows, 224), min(columns, 224))
        assert min(height, width) >= 112
        assert 0 <= section < shape[plane]
        assert 0 <= y <= rows - height
        assert 0 <= x <= columns - width
    np.testing.assert_array_equal(places, random_places(plan, number, seed))


def test_few_places_are_all_taken() -> None:
    places = random_places(TilePlan(("xy",), Reduction(), (3, 224, 225)), 100, 0)
    assert len(places) == 6
    assert len(random_places(TilePlan(("xy",), Reduction(), (3, 111, 225)), 100, 0)) == 0
