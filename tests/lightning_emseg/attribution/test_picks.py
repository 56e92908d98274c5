"""Windows and pixels that a run looks at, against their definition."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.attribution.location_hash import number_of
from lightning_emseg.attribution.network_copy import detached_copy
from lightning_emseg.attribution.picks import choose_windows, inner_part, pick
from lightning_emseg.attribution.points import OUTCOMES, priorities
from lightning_emseg.attribution.windows import Place
from tests.support import tiny

SHAPES = ((70, 90), (40, 61), (64, 100))


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
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
    found = pick(network, views[0], place, 140, 3, 9, torch.device("cpu"))
    image, truth = views[0].read_image(place.origin, place.size), views[0].read_mask(place.origin, place.size)
    np.testing.assert_array_equal(found.probability, tiny.known_map(image))
    predicted = tiny.known_map(image) >= 140
    order = priorities((9, number_of(views[0].key)), place.origin, place.size)
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
