"""Rejection of patches with little foreground: exact limits, and the rate asked for."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.sampling import ForegroundPatches
from data_modules.store import MosaicView
from tests.support.mosaic_checks import Bytes, grey, views, write_mosaic

Half = tuple[MosaicView, Bytes]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Half:
    """A mosaic with foreground in its left part only, and sides that are no multiple of a block."""
    store = tmp_path_factory.mktemp("half") / "s"
    mask = np.zeros((1100, 330), np.uint8)
    mask[:, :100] = np.random.default_rng(0).random((1100, 100)) < 0.3
    mask[5:9, 3:80] = 255
    write_mosaic(store, "train/a", grey(mask.shape), mask)
    return views(store)[0], mask


def test_foreground_is_that_of_the_patch(half: Half) -> None:
    mosaic, mask = half
    sampling = ForegroundPatches()
    sampling.index([mosaic])
    for y, x in np.random.default_rng(1).integers(0, (1100 - 64, 330 - 64), (50, 2)).tolist():
        assert sampling.foreground(mosaic, (y, x), (64, 64)) == (mask[y : y + 64, x : x + 64] == 1).sum()


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
    write_mosaic(tmp_path / "s", "train/a", grey((64, 64)), np.zeros((64, 64), np.uint8))
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
