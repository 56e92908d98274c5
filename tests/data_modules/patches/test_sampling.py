"""Exact foreground of any patch, against counting its pixels."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.patches.sampling import ForegroundIndex, ForegroundPatches, masks_of
from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter
from tests.support.store_checks import Bytes, binary, noise, views, write_mosaic

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
        write_mosaic(store, key, noise(shape), masks[key])
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


def test_memory_is_a_bit_per_pixel(tmp_path: Path) -> None:
    mask = binary((16, 512, 512), share=0.1)
    write_mosaic(tmp_path / "s", "train/a", noise(mask.shape), mask)
    index = ForegroundIndex.of(views(tmp_path / "s")[0])
    assert index.bits.nbytes == mask.size / 8


def test_labels_are_streamed_in_rows(tmp_path: Path) -> None:
    mask = binary((21, 40, 50))
    write_mosaic(tmp_path / "s", "train/a", noise(mask.shape), mask)
    (view,) = views(tmp_path / "s")
    parts = list(masks_of(view, 5 * 2000))
    index = ForegroundIndex.of(view, 5 * 2000)
    assert [(start, len(part)) for start, part in parts] == [(0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 1)]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), mask)
    assert index.count((2, 3, 4), (17, 30, 40)) == by_hand(mask, (2, 3, 4), (17, 30, 40))
    assert [len(part) for _, part in masks_of(view, 100)] == [1] * 21


def test_windows_and_other_axes_have_their_own_pixels(tmp_path: Path) -> None:
    mask = binary((12, 40, 50))
    write_mosaic(tmp_path / "s", "train/a", noise(mask.shape), mask)
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


Half = tuple[MosaicView, Bytes]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Half:
    """A mosaic with foreground in its left part only, and sides that are no multiple of a block."""
    store = tmp_path_factory.mktemp("half") / "s"
    mask = np.zeros((1100, 330), np.uint8)
    mask[:, :100] = np.random.default_rng(0).random((1100, 100)) < 0.3
    mask[5:9, 3:80] = 255
    write_mosaic(store, "train/a", noise(mask.shape), mask)
    return views(store)[0], mask


@pytest.mark.parametrize("limit", [{"min_pixels": 200}, {"min_fraction": 200 / 1024}])
def test_the_limit_is_exact(half: Half, limit: dict[str, Any]) -> None:
    """Both sides of it occur: patches of 199 foreground pixels are never taken, those of 200 are."""
    mosaic, mask = half
    drawn = ForegroundPatches(reject=1.0, **limit).positions([mosaic], (32, 32), 2_500, np.random.default_rng(3))
    found = [(mask[y : y + 32, x : x + 32] == 1).sum() for _, (y, x) in drawn]
    assert min(found) == 200


def test_padding_has_no_foreground(half: Half) -> None:
    """A patch larger than the mosaic, as with allow_small, is poorer by what lies outside."""
    mosaic, mask = half
    whole, size = int((mask == 1).sum()), (1200, 400)
    share = whole / (1200 * 400)
    for limit, accepted in ((whole, True), (whole + 1, False)):
        sampling = ForegroundPatches(reject=1.0, min_pixels=limit)
        if accepted:
            assert sampling.positions([mosaic], size, 2, np.random.default_rng(0)) == [(0, (0, 0))] * 2
            continue
        with pytest.raises(UserError, match=rf"0 of 2 .* at least {limit} px of foreground: lower .*\.min_pixels"):
            sampling.positions([mosaic], size, 2, np.random.default_rng(0))
    ForegroundPatches(share - 1e-6, 1.0).positions([mosaic], size, 1, np.random.default_rng(0))
    with pytest.raises(UserError, match="0 of 1 patches"):
        ForegroundPatches(share + 1e-6, 1.0).positions([mosaic], size, 1, np.random.default_rng(0))


def test_labels_are_read_once(half: Half) -> None:
    sampling = ForegroundPatches()
    with patch.object(MosaicView, "read_mask", autospec=True, side_effect=MosaicView.read_mask) as read:
        for seed in range(3):
            sampling.positions([half[0]], (32, 32), 10, np.random.default_rng(seed))
    assert read.call_count == 1


@pytest.mark.parametrize("reject", [0.0, 0.5, 0.95])
def test_poor_patches_are_rejected_at_the_given_rate(half: Half, reject: float) -> None:
    mosaic, _ = half
    size, count = (32, 32), 4000
    sampling = ForegroundPatches(0.01, reject)
    drawn = sampling.positions([mosaic], size, count, np.random.default_rng(2))
    assert len(drawn) == count
    poor = np.mean([origin[1] >= 128 for _, origin in drawn])
    # Right of column 128 all patches are empty, left of 100 − 32 rich; those between are left out of the count.
    rich = np.mean([origin[1] <= 68 for _, origin in drawn])
    columns = 330 - 32 + 1
    area_poor, area_rich = (columns - 128) / columns, 69 / columns
    assert poor / rich == pytest.approx((1 - reject) * area_poor / area_rich, rel=0.15)


def test_rejecting_every_patch_is_an_error(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "s", "train/a", noise((64, 64)), np.zeros((64, 64), np.uint8))
    with pytest.raises(UserError, match=r"0 of 3 patches .*data\.sampling\.min_fraction"):
        ForegroundPatches(0.5, 1.0).positions(views(tmp_path / "s"), (32, 32), 3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_fraction": -0.1}, "min_fraction -0.1 and reject 0.95 must be in 0–1"),
        ({"min_fraction": 1.1}, "min_fraction 1.1"),
        ({"min_fraction": 0.1, "reject": 1.5}, "reject 1.5"),
        ({"min_pixels": 5, "reject": -1}, "reject -1"),
        ({"min_pixels": 0}, "min_pixels must be at least 1, got 0"),
        ({"min_pixels": 5, "min_fraction": 0.1}, "min_fraction 0.1 and min_pixels 5 are two measures"),
    ],
)
def test_limits_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"ForegroundPatches: .*{message}"):
        ForegroundPatches(**arguments)


def test_more_pixels_than_a_patch_has_are_refused(half: Half) -> None:
    with pytest.raises(UserError, match=r"data\.sampling\.min_pixels 1025 is more than a patch of \(32, 32\) px has"):
        ForegroundPatches(min_pixels=1025).positions([half[0]], (32, 32), 1, np.random.default_rng(0))
