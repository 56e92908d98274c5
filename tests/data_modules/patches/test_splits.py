"""Which pixels are trained on and which validate; painted into arrays, so that leakage is a number."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.patches.sampling import Position
from data_modules.patches.splits import DividedMosaics, MosaicSplit, PatchSplit, RegionSplit
from data_modules.store import MosaicView
from tests.support.mosaic_checks import views, write_random

SIZES: dict[str, tuple[int, ...]] = {"train/a": (200, 300), "train/b": (150, 260), "val/c": (100, 120)}
PATCH = (32, 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("splits") / "s"
    write_random(path, SIZES)
    return path


def pixels(mosaics: list[MosaicView], patches: list[Position] | None = None) -> set[tuple[str, int, int]]:
    """Every pixel of the store that the mosaics, or the patches in them, show."""
    boxes = [(index, (0, 0), mosaic.shape) for index, mosaic in enumerate(mosaics)]
    if patches is not None:
        boxes = [(index, (origin[0], origin[1]), PATCH) for index, origin in patches]
    seen = set()
    for index, (top, left), (height, width) in boxes:
        y, x = mosaics[index].start
        for row in range(y + top, y + top + height):
            seen |= {(mosaics[index].image.path, row, column) for column in range(x + left, x + left + width)}
    return seen


def divide(store: Path, split: MosaicSplit | RegionSplit | PatchSplit, seed: int = 0) -> DividedMosaics:
    return split.divide(lambda name: views(store, name), PATCH, seed)


def test_whole_mosaics_do_not_overlap(store: Path) -> None:
    division = divide(store, MosaicSplit())
    assert [mosaic.key for mosaic in division.train] == ["train/a", "train/b"]
    assert [mosaic.key for mosaic in division.val] == ["val/c"]
    assert division.train_patches is division.val_patches is None
    assert not pixels(list(division.train)) & pixels(list(division.val))


def test_a_missing_split_is_named(store: Path) -> None:
    with pytest.raises(UserError, match="no split 'validation'; it has: train, val"):
        divide(store, MosaicSplit(val="validation"))


@pytest.mark.parametrize("gap", [None, 0, 7])
def test_regions_keep_their_distance(store: Path, gap: int | None) -> None:
    division = divide(store, RegionSplit(val_fraction=0.25, gap_px=gap))
    wanted = 32 if gap is None else gap
    for train, val, width in zip(division.train, division.val, (300, 260), strict=True):
        assert train.start == (0, 0)
        assert val.start[1] - train.shape[1] == wanted
        assert val.start[1] + val.shape[1] == width
        assert val.shape[1] == round(width * 0.25)
        assert train.shape[0] == val.shape[0] == train.image.shape[0]
        assert len({train.key, val.key, "train/a"}) == 3
    assert not pixels(list(division.train)) & pixels(list(division.val))


def test_training_regions_never_show_validation_pixels(store: Path) -> None:
    """Even mirrored padding stays inside: what lies beyond a window is never read."""
    division = divide(store, RegionSplit(val_fraction=0.25, gap_px=0))
    train = division.train[0]
    beyond = train.read_image((0, train.shape[1] - 10), (20, 20))
    inside = train.read_image((0, train.shape[1] - 10), (20, 10))
    np.testing.assert_array_equal(beyond, np.concatenate([inside, inside[:, ::-1]], axis=1))


@pytest.mark.parametrize(
    ("fraction", "gap", "message"),
    [
        (0.9, 32, r"train/a: 300 px leave no room for a gap of 32 px and 90%"),
        (0.5, 200, r"train/a: 300 px leave no room for a gap of 200 px"),
        (0.001, 0, r"train/a: 300 px leave no room"),
        (0.0, 0, "val_fraction must lie between 0 and 1, got 0.0"),
        (1.0, 0, "val_fraction must lie between 0 and 1, got 1.0"),
        (0.2, -5, "gap_px must be at least 0, got -5"),
    ],
)
def test_regions_without_room_are_refused(store: Path, fraction: float, gap: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        divide(store, RegionSplit(val_fraction=fraction, gap_px=gap))


def test_patch_splits_have_their_numbers_and_leak(store: Path) -> None:
    """The split of the paper shows training pixels in validation; this is what it is here to show."""
    division = divide(store, PatchSplit(train=60, val=25))
    assert division.train_patches is not None
    assert division.val_patches is not None
    assert (len(division.train_patches), len(division.val_patches)) == (60, 25)
    mosaics = list(division.train)
    assert [mosaic.key for mosaic in division.val] == [mosaic.key for mosaic in mosaics]
    for index, origin in [*division.train_patches, *division.val_patches]:
        assert all(0 <= o <= s - 32 for o, s in zip(origin, mosaics[index].shape, strict=True))
    train = pixels(mosaics, list(division.train_patches))
    val = pixels(mosaics, list(division.val_patches))
    assert len(train & val) > 0.3 * len(val)


def test_patches_beyond_the_grid_are_random(store: Path) -> None:
    division = divide(store, PatchSplit(train=2000, val=800))
    assert division.train_patches is not None
    assert division.val_patches is not None
    chosen = [*division.train_patches, *division.val_patches]
    assert len(chosen) == 2800
    off_grid = [origin for _, origin in chosen if origin[0] % 16 and origin[1] % 16]
    assert len(off_grid) > 1000
    # 200 → 12 rows of tiles at a step of 16, 300 → 18 columns; 150 → 9, 260 → 16: every tile of the grid is among them.
    grid = {(0, (16 * row, 16 * column)) for row in range(11) for column in range(17)}
    assert grid <= set(chosen)


def test_the_seed_decides_the_patches(store: Path) -> None:
    first, again, other = (divide(store, PatchSplit(train=20, val=5), seed) for seed in (1, 1, 2))
    assert first.train_patches == again.train_patches
    assert first.val_patches == again.val_patches
    assert first.train_patches != other.train_patches
