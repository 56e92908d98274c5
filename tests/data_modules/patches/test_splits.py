"""Divisions of mosaics: no pixel on both sides, the same for a seed, sections of volumes, and mistakes by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.mosaic import Mosaic
from data_modules.patches.sampling import ForegroundPatches, Position
from data_modules.patches.splits import DividedMosaics, MosaicSplit, PatchSplit, RegionSplit, SectionSplit
from data_modules.store import MosaicView
from tests.support.store_checks import binary, noise, views, write_mosaic, write_random
from tests.support.trainers import attach_rank

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


VOLUME_PATCH = (4, 16, 16)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sections") / "s"
    write_random(
        path, {"train/a": (20, 40, 48), "train/b": (13, 30, 50), "various/c": (40, 40), "various/d": (9, 20, 20)}
    )
    return path


def divide_sections(volumes: Path, **options: Any) -> DividedMosaics:
    return SectionSplit(**options).divide(lambda name: views(volumes, name), VOLUME_PATCH, 0)


@pytest.mark.parametrize(
    ("options", "sections"),
    [
        ({"train": 9, "val": 4}, [(0, 9, 13), (0, 9, 13)]),
        ({"train": 10, "val": None}, [(0, 10, 20), (0, 10, 13)]),
        ({"train": None, "val": 5}, [(0, 15, 20), (0, 8, 13)]),
        # 0.8 · 20 = 16 and 0.2 · 20 = 4; 10.4 and 2.6 of 13.
        ({"train": 0.8, "val": 0.2}, [(0, 16, 20), (0, 10, 12)]),
        ({"train": 0.8, "val": None}, [(0, 16, 20), (0, 10, 13)]),
        ({"train": None, "val": 0.25}, [(0, 15, 20), (0, 10, 13)]),
        ({"train": 0.5, "val": 2}, [(0, 10, 12), (0, 6, 8)]),
    ],
)
def test_first_sections_train_and_next_ones_validate(
    volumes: Path, options: dict[str, Any], sections: list[tuple[int, int, int]]
) -> None:
    division = divide_sections(volumes, **options)
    assert division.train_patches is division.val_patches is None
    whole = views(volumes)
    for train, val, volume, (first, cut, last) in zip(division.train, division.val, whole, sections, strict=True):
        origin, sides = (0, 0, 0), volume.shape[1:]
        everything = volume.read_image(origin, volume.shape)
        np.testing.assert_array_equal(train.read_image(origin, (cut, *sides)), everything[first:cut])
        np.testing.assert_array_equal(val.read_image(origin, (last - cut, *sides)), everything[cut:last])
        assert (train.shape[0], val.shape[0]) == (cut - first, last - cut)
        assert len({train.key, val.key, volume.key}) == 3


def test_the_defaults_are_those_of_cleftnet(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "s", "train/a", noise((125, 8, 8)), binary((125, 8, 8)))
    division = divide_sections(tmp_path / "s")
    assert [(view.start[0], view.shape[0]) for view in (*division.train, *division.val)] == [(0, 100), (100, 25)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "various"}, "divides volumes, but various/c are images: choose another data.split"),
        (
            {"train": 16, "val": 4},
            r"train/b \(13\) have too few sections for train 16 and val 4: .*data.split.train 0.8",
        ),
        ({}, r"train/a \(20\), train/b \(13\) have too few sections for train 100 and val 25"),
        ({"train": 13, "val": None}, r"SectionSplit: train/b \(13\) have too few"),
        ({"train": None, "val": 0.01}, r"train/a \(20\), train/b \(13\)"),
        ({"source": "other"}, "no split 'other'; it has: train, various"),
        ({"train": None, "val": None}, "both null"),
        ({"train": 0}, "train must be a whole number of sections or a share between 0 and 1, got 0"),
        ({"val": -3}, "val must be a whole number"),
        ({"val": 2.5}, "val must be a whole number of sections or a share between 0 and 1, got 2.5"),
        ({"train": float("nan")}, "train must be"),
    ],
)
def test_impossible_divisions_are_refused_by_name(volumes: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        divide_sections(volumes, **options)


def data_of(volumes: Path, **changes: Any) -> Mosaic:
    options: dict[str, Any] = {"patch_size": list(VOLUME_PATCH), "batch_size": 3, "patches_per_epoch": 12, "seed": 1}
    return Mosaic(str(volumes), **{**options, "split": SectionSplit(train=8, val=5), **changes})


@pytest.mark.parametrize("sampling", [None, ForegroundPatches(min_pixels=1)])
def test_training_patches_stay_in_their_sections(volumes: Path, sampling: Any) -> None:
    data = data_of(volumes, sampling=sampling, patches_per_epoch=60)
    data.setup("fit")
    first = [int(origin[0]) for batch in data.train_dataloader() for origin in batch["origin"]]
    assert set(first) == set(range(8 - 4 + 1))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_ranks_sweep_windows_in_z_once_and_whole(volumes: Path, world: int, overlap: float) -> None:
    """Origins are in px of the windows, and tiles show what the whole volume has there."""
    rows = [np.zeros(5, int) for _ in range(2)]
    whole = views(volumes)
    for rank in range(world):
        data = attach_rank(data_of(volumes, overlap=overlap), rank, world)
        data.setup("validate")
        (loader,) = data.val_dataloader()
        dataset: Any = loader.dataset
        for span in dataset.sweep.spans:
            rows[span.mosaic][span.start : span.stop] += 1
        for batch in loader:
            for number, mosaic in enumerate(batch["mosaic"].tolist()):
                z, y, x = batch["origin"][number].tolist()
                assert 0 <= z <= 1
                expected = whole[mosaic].read_image((8 + z, y, x), VOLUME_PATCH)
                np.testing.assert_array_equal(batch["image"][number, 0], expected)
    assert all((seen == 1).all() for seen in rows)


def test_patches_deeper_than_their_sections_are_refused(volumes: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"patch of \(9, 16, 16\) px \(of 9 sections, but one of them has a depth of 8\): train/a\[0:8, .*",
    ):
        data_of(volumes, patch_size=[9, 16, 16]).setup("fit")
    data_of(volumes, patch_size=[9, 16, 16], allow_small=True).setup("fit")
    with pytest.raises(UserError, match=r"smaller than a patch of \(4, 60, 16\) px: train/a\[0:8"):
        data_of(volumes, patch_size=[4, 60, 16]).setup("fit")


def test_only_training_sections_count_as_foreground(tmp_path: Path) -> None:
    """The conversion's counts are of the whole volume, whose foreground may all lie where it validates."""
    mask = np.zeros((13, 20, 20), np.uint8)
    mask[8:, 5] = 1
    mask[3, 2:4] = 255
    write_mosaic(tmp_path / "s", "train/late", noise(mask.shape), mask)
    write_mosaic(tmp_path / "s", "train/early", noise(mask.shape), mask[::-1].copy())
    write_mosaic(tmp_path / "s", "train/never", noise(mask.shape), mask * 0)
    with pytest.raises(UserError, match=r"no foreground at all in the masks of train/late\[0:8.*\], train/never\[0:8"):
        data_of(tmp_path / "s").setup("fit")
    data_of(tmp_path / "s", allow_empty=True).setup("fit")
    data_of(tmp_path / "s").setup("validate")


def test_planes_of_the_sections_train(volumes: Path) -> None:
    data = data_of(volumes, planes="xy", patch_size=16)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (3, 1, 16, 16)
    assert {mosaic.shape[0] for mosaic in data.train_dataloader().dataset.mosaics} == {8}  # type: ignore[attr-defined]
