"""Windows and pixels that a run looks at, against their definition."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.attribution.measurement import StudySetting
from lightning_emseg.attribution.network import GreyNetwork, detached_copy
from lightning_emseg.attribution.points import OUTCOMES, ChosenPixels, choose_checked, draw_priorities
from lightning_emseg.attribution.sampling import (
    choose_grid_windows,
    choose_pixels,
    choose_windows,
    inner_part,
    make_tiles,
    pick_pixels,
)
from lightning_emseg.attribution.study import CURVE
from lightning_emseg.attribution.windows import Place, hash_name
from tests.support import tiny
from tests.support.offline_views import CPU, SEED, make_views

SHAPES = ((70, 90), (40, 61), (64, 100))


@pytest.fixture(scope="module")
def picked_views(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    store = tmp_path_factory.mktemp("picks") / "s.zarr"
    for number, shape in enumerate(SHAPES):
        tiny.write_sample(store, f"val/m{number}", *tiny.content(shape, number))
    return [MosaicView.of(sample, "membrane") for sample in MosaicStore(store).samples("val")]


def test_windows_are_spread_evenly_over_mosaics(views: list[MosaicView]) -> None:
    places = choose_windows(views, (32, 48), 16, 7, seed=1)
    assert len(set(places)) == 7
    assert sorted(Counter(place.mosaic for place in places).values()) == [2, 2, 3]
    for place in places:
        assert place.size == (32, 48)
        extents = views[place.mosaic].shape
        assert all(0 <= at <= extent - side for at, side, extent in zip(place.origin, place.size, extents, strict=True))
        truth = views[place.mosaic].read_mask(place.origin, place.size)
        assert {0, 1} <= set(np.unique(truth))
    assert choose_windows(views, (32, 48), 16, 7, seed=1) == places
    assert choose_windows(views, (32, 48), 16, 3, seed=1) == places[:3]
    assert choose_windows(views, (32, 48), 16, 7, seed=2) != places


@pytest.mark.parametrize("value", [0, 1])
def test_windows_without_both_classes_are_not_chosen(tmp_path: Path, value: int) -> None:
    pixels = np.full((50, 50), value, np.uint8)
    tiny.write_sample(tmp_path / "s.zarr", "val/a", pixels, pixels)
    (sample,) = MosaicStore(tmp_path / "s.zarr").samples("val")
    assert choose_windows([MosaicView.of(sample, "membrane")], (16, 16), 1, 4, seed=0) == []


@pytest.mark.parametrize("place", [Place(0, (20, 30), (40, 40)), Place(0, (0, 50), (40, 40))])
def test_inner_pixels_of_lowest_priority_are_picked(views: list[MosaicView], place: Place) -> None:
    network = detached_copy(tiny.OfGrey(), 127.5, 127.5)
    found = pick_pixels(network, views[0], place, 140, 3, 9, torch.device("cpu"))
    image, truth = views[0].read_image(place.origin, place.size), views[0].read_mask(place.origin, place.size)
    np.testing.assert_array_equal(found.probability, tiny.known_map(image))
    predicted = tiny.known_map(image) >= 140
    order = draw_priorities((9, hash_name(views[0].key)), place.origin, place.size)
    # A fifth of the side away from borders that are not the mosaic's.
    rows = range(8 if place.origin[0] else 0, 32)
    columns = range(8, 40 if place.origin[1] == 50 else 32)
    expected = []
    for outcome, (is_true, says) in zip(OUTCOMES, ((1, True), (0, True), (1, False), (0, False)), strict=True):
        some = [(y, x) for y in rows for x in columns if truth[y, x] == is_true and predicted[y, x] == says]
        expected += [(pixel, outcome) for pixel in sorted(some, key=lambda pixel: int(order[pixel]))[:3]]
    assert list(zip(found.chosen.pixels, found.chosen.outcomes, strict=True)) == expected


def test_mosaic_borders_belong_to_the_inner_part() -> None:
    assert inner_part(Place(0, (0, 50), (40, 50)), (40, 100)) == (slice(0, 40), slice(10, 50))
    assert inner_part(Place(0, (30, 0), (40, 50)), (100, 100)) == (slice(8, 32), slice(0, 40))


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    return make_views(tmp_path_factory.mktemp("offline"))


def grey_network() -> GreyNetwork:
    """Foreground where the pixel itself is dark, so that every outcome can be computed by hand."""
    return detached_copy(tiny.OfGrey(), 127.5, 127.5)


def setting_of(views: list[MosaicView], resize: tuple[int, int] | None = None) -> StudySetting:
    return StudySetting(views, "zero", CURVE, SEED, resize)


def choose(
    views: list[MosaicView],
    points: int | None,
    step: int | None = None,
    size: tuple[int, int] = (32, 32),
    resize: tuple[int, int] | None = None,
) -> list[ChosenPixels]:
    tiles = make_tiles(views, size, 0, 1, resize is not None)
    return choose_pixels(grey_network(), setting_of(views, resize), tiles, 128, CPU, points, step)


def positions(chosen: list[ChosenPixels]) -> list[tuple[int, int, int]]:
    """Mosaic and position there, where windows are not resized."""
    return [
        (each.place.mosaic, each.place.origin[0] + y, each.place.origin[1] + x)
        for each in chosen
        for y, x in each.pixels
    ]


def outcome_names(view: MosaicView) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    image = view.read_image((0, 0), view.shape)
    truth, predicted = view.read_mask((0, 0), view.shape), tiny.known_map(image) >= 128
    names = np.full(image.shape, "", object)
    for said, is_true, name in ((True, 1, "TP"), (True, 0, "FP"), (False, 1, "FN"), (False, 0, "TN")):
        names[(predicted == said) & (truth == is_true)] = name
    return names


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    overlap=st.sampled_from([0.0, 0.3, 0.5]),
    resized=st.booleans(),
)
@example(shape=(3, 90), size=(6, 1), overlap=0.5, resized=False)
@example(shape=(90, 47), size=(2, 3), overlap=0.3, resized=True)
@example(shape=(64, 33), size=(4, 4), overlap=0.0, resized=False)
def test_every_pixel_belongs_to_one_window(
    views: list[MosaicView], shape: tuple[int, int], size: tuple[int, int], overlap: float, resized: bool
) -> None:
    # Nothing is read, so that the shape may be any.
    view = replace(views[0], shape=shape)
    owners = np.zeros(shape, int)
    sides = tuple(8 * side for side in size)
    for tile in make_tiles([view], sides, overlap, 8, resized):
        owners[tile.owned] += 1
        assert all(
            start <= part.start and part.stop <= start + side
            for start, side, part in zip(tile.place.origin, tile.place.size, tile.owned, strict=True)
        )
        assert tile.place.size == sides or not resized
        assert all(side % 8 == 0 for side in tile.place.size)
    assert (owners == 1).all()


def test_half_overlap_keeps_pixels_far_from_borders(views: list[MosaicView]) -> None:
    for tile in make_tiles(views, (32, 32), 0.5, 1, False):
        extents = views[tile.place.mosaic].shape
        for start, side, part, extent in zip(tile.place.origin, tile.place.size, tile.owned, extents, strict=True):
            assert part.start - start >= 8 or part.start == 0
            assert start + side - part.stop >= 8 or part.stop == extent


def test_stratified_pixels_have_lowest_priority_in_whole_mosaics(views: list[MosaicView]) -> None:
    chosen = choose(views, 42)
    found = {
        (place, outcome)
        for place, outcome in zip(positions(chosen), (o for each in chosen for o in each.outcomes), strict=True)
    }
    expected = set()
    for name, count in zip(OUTCOMES, (11, 11, 10, 10), strict=True):
        candidates = []
        for number, view in enumerate(views):
            order = draw_priorities((SEED, hash_name(view.key)), (0, 0), view.shape)
            candidates += [
                (int(order[y, x]), (number, int(y), int(x))) for y, x in np.argwhere(outcome_names(view) == name)
            ]
        expected |= {(place, name) for _, place in sorted(candidates)[:count]}
    assert found == expected
    assert len(positions(chosen)) == 42


def test_outcome_with_few_pixels_gives_all(views: list[MosaicView]) -> None:
    names = outcome_names(views[1])
    total = 4 * int((names == "FP").sum()) + 4
    found = choose(views[1:2], total)
    counts = {name: [o for each in found for o in each.outcomes].count(name) for name in OUTCOMES}
    assert counts == {name: min(total // 4, int((names == name).sum())) for name in OUTCOMES}


def test_grid_takes_every_nth_pixel_of_windows_once(views: list[MosaicView]) -> None:
    chosen = choose(views, None, 8)
    expected = []
    for number, view in enumerate(views):
        names = outcome_names(view)
        for tile in make_tiles([view], (32, 32), 0, 1, False):
            for y in range(4, tile.place.size[0], 8):
                for x in range(4, tile.place.size[1], 8):
                    at = (tile.place.origin[0] + y, tile.place.origin[1] + x)
                    mine = all(part.start <= i < part.stop for i, part in zip(at, tile.owned, strict=True))
                    if mine and names[at]:
                        expected.append((number, *at))
    assert sorted(positions(chosen)) == sorted(expected)
    assert len(set(expected)) == len(expected)
    some = choose(views, 20, 8)
    assert len(positions(some)) == 20
    assert set(positions(some)) < set(expected)


def test_pixels_of_resized_windows_lie_in_owned_area(views: list[MosaicView]) -> None:
    chosen = choose(views, None, 4, size=(48, 48), resize=(32, 32))
    owned = {tile.place: tile.owned for tile in make_tiles(views, (48, 48), 0, 1, True)}
    for each in chosen:
        assert each.place.size == (48, 48)
        for pixel in each.pixels:
            at = [start + (i + 0.5) * 1.5 for start, i in zip(each.place.origin, pixel, strict=True)]
            assert all(part.start <= i < part.stop for i, part in zip(at, owned[each.place], strict=True))


def test_without_a_label_pixels_have_no_outcome(views: list[MosaicView]) -> None:
    bare = [replace(view, mask=None) for view in views]
    chosen = choose(bare, 30)
    assert len(positions(chosen)) == 30
    assert {outcome for each in chosen for outcome in each.outcomes} == {""}
    assert sum(map(len, choose_checked(chosen, 6))) == 6


def test_windows_are_chosen_reproducibly_at_random(views: list[MosaicView]) -> None:
    tiles = make_tiles(views, (16, 16), 0, 1, False)
    some = choose_grid_windows(tiles, views, 9, SEED)
    assert len(some) == 9
    assert some == choose_grid_windows(tiles, views, 9, SEED) != choose_grid_windows(tiles, views, 9, SEED + 1)
    assert [tile for tile in tiles if tile in some] == some
    assert all(tile in choose_grid_windows(tiles, views, 20, SEED) for tile in some)
    assert choose_grid_windows(tiles, views, None, SEED) == choose_grid_windows(tiles, views, 10_000, SEED) == tiles
