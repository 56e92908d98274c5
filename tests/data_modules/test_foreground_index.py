"""Exact foreground of any patch, against counting its pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.foreground_index import ForegroundIndex, masks_of
from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter
from tests.support.mosaic_checks import Bytes, binary, grey, views, write_mosaic

SHAPES: dict[str, tuple[int, ...]] = {
    "train/image": (101, 203),
    "train/blocks": (64, 96),
    "train/tiny": (5, 3),
    "train/volume": (9, 70, 75),
    "train/thin": (1, 33, 64),
}
Indexed = dict[str, tuple[ForegroundIndex, Bytes]]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    store, masks = tmp_path_factory.mktemp("index") / "s", {}
    for number, (key, shape) in enumerate(SHAPES.items()):
        masks[key] = binary(shape, seed=number, share=0.4)
        masks[key].flat[::17] = 255
        write_mosaic(store, key, grey(shape), masks[key])
    return {view.key: (ForegroundIndex.of(view), masks[view.key]) for view in views(store)}


def by_hand(mask: Bytes, origin: tuple[int, ...], size: tuple[int, ...]) -> int:
    inside = tuple(slice(max(o, 0), max(o + s, 0)) for o, s in zip(origin, size, strict=True))
    return int((mask[inside] == 1).sum())


@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("key", SHAPES)
def test_any_patch_has_the_pixels_that_it_shows(indexed: Indexed, seed: int, key: str) -> None:
    """Also patches that begin before the mosaic, end behind it or lie outside."""
    index, mask = indexed[key]
    random = np.random.default_rng(seed)
    for _ in range(8):
        origin = tuple(int(random.integers(-40, side + 11)) for side in mask.shape)
        size = tuple(int(random.integers(1, side + 61)) for side in mask.shape)
        assert index.count(origin, size) == by_hand(mask, origin, size)


@pytest.mark.parametrize("key", SHAPES)
def test_patches_at_the_edges_of_blocks(indexed: Indexed, key: str) -> None:
    index, mask = indexed[key]
    assert index.count((0,) * mask.ndim, mask.shape) == (mask == 1).sum()
    for first in (0, 7, 8, 31, 32, 33):
        for extent in (1, 8, 31, 32, 33, 64):
            origin, size = (0,) * (mask.ndim - 2) + (first, first), (1,) * (mask.ndim - 2) + (extent, extent)
            assert index.count(origin, size) == by_hand(mask, origin, size)


def test_memory_is_little_above_a_bit_per_pixel(tmp_path: Path) -> None:
    mask = binary((16, 512, 512), share=0.1)
    write_mosaic(tmp_path / "s", "train/a", grey(mask.shape), mask)
    index = ForegroundIndex.of(views(tmp_path / "s")[0])
    assert index.bits.nbytes == mask.size / 8
    assert index.sums.nbytes < mask.size / 100


def test_labels_are_streamed_in_rows(tmp_path: Path) -> None:
    mask = binary((21, 40, 50))
    write_mosaic(tmp_path / "s", "train/a", grey(mask.shape), mask)
    (view,) = views(tmp_path / "s")
    parts = list(masks_of(view, 5 * 2000))
    index = ForegroundIndex.of(view, 5 * 2000)
    assert [(start, len(part)) for start, part in parts] == [(0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 1)]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), mask)
    assert index.count((2, 3, 4), (17, 30, 40)) == by_hand(mask, (2, 3, 4), (17, 30, 40))
    assert [len(part) for _, part in masks_of(view, 100)] == [1] * 21


def test_windows_and_other_axes_have_their_own_pixels(tmp_path: Path) -> None:
    mask = binary((12, 40, 50))
    write_mosaic(tmp_path / "s", "train/a", grey(mask.shape), mask)
    (view,) = views(tmp_path / "s")
    window = ForegroundIndex.of(view.window((3, 5, 7), (10, 40, 49)))
    assert window.count((1, 2, 3), (20, 20, 20)) == (mask[4:10, 7:27, 10:30] == 1).sum()
    turned = ForegroundIndex.of(view.along(1, 0, 2))
    assert turned.count((6, 1, 9), (1, 8, 30)) == (mask[1:9, 6, 9:39] == 1).sum()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [({"foreground": ["nucleus"]}, {1}), ({"foreground": [1, 2]}, {1, 2}), ({"classes": ["none", "nucleus"]}, {1})],
)
def test_foreground_is_that_of_the_chosen_classes(tmp_path: Path, arguments: dict[str, Any], wanted: set[int]) -> None:
    values = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (40, 70))
    names = {0: "none", 1: "nucleus", 2: "vesicle"}
    if "classes" in arguments:
        values[values == 2] = 0
        del names[2]
    with SampleWriter(tmp_path / "s", "train", "a", values.shape, (1, 1)) as sample:
        sample.image.write(values)
        sample.add_label("x", LabelInfo("classes", names)).write(values)
    index = ForegroundIndex.of(MosaicView.of(MosaicStore(tmp_path / "s").sample("train/a"), "x", **arguments))
    assert index.count((3, 5), (30, 60)) == np.isin(values[3:33, 5:65], list(wanted)).sum()
