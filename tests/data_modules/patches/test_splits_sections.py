"""Sections that train and those that validate, and what windows in Z are swept as."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.mosaic import Mosaic
from data_modules.patches.sampling import ForegroundPatches
from data_modules.patches.splits import DividedMosaics, SectionSplit
from tests.support.mosaic_checks import binary, grey, views, write_mosaic, write_random
from tests.support.trainers import attach_rank

PATCH = (4, 16, 16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sections") / "s"
    write_random(
        path, {"train/a": (20, 40, 48), "train/b": (13, 30, 50), "various/c": (40, 40), "various/d": (9, 20, 20)}
    )
    return path


def divide(store: Path, **options: Any) -> DividedMosaics:
    return SectionSplit(**options).divide(lambda name: views(store, name), PATCH, 0)


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
    store: Path, options: dict[str, Any], sections: list[tuple[int, int, int]]
) -> None:
    division = divide(store, **options)
    assert division.train_patches is division.val_patches is None
    whole = views(store)
    for train, val, volume, (first, cut, last) in zip(division.train, division.val, whole, sections, strict=True):
        origin, sides = (0, 0, 0), volume.shape[1:]
        everything = volume.read_image(origin, volume.shape)
        np.testing.assert_array_equal(train.read_image(origin, (cut, *sides)), everything[first:cut])
        np.testing.assert_array_equal(val.read_image(origin, (last - cut, *sides)), everything[cut:last])
        assert (train.shape[0], val.shape[0]) == (cut - first, last - cut)
        assert len({train.key, val.key, volume.key}) == 3


def test_the_defaults_are_those_of_cleftnet(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "s", "train/a", grey((125, 8, 8)), binary((125, 8, 8)))
    division = divide(tmp_path / "s")
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
def test_impossible_divisions_are_refused_by_name(store: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        divide(store, **options)


def data_of(store: Path, **changes: Any) -> Mosaic:
    options: dict[str, Any] = {"patch_size": list(PATCH), "batch_size": 3, "patches_per_epoch": 12, "seed": 1}
    return Mosaic(str(store), **{**options, "split": SectionSplit(train=8, val=5), **changes})


@pytest.mark.parametrize("sampling", [None, ForegroundPatches(min_pixels=1)])
def test_training_patches_stay_in_their_sections(store: Path, sampling: Any) -> None:
    data = data_of(store, sampling=sampling, patches_per_epoch=60)
    data.setup("fit")
    first = [int(origin[0]) for batch in data.train_dataloader() for origin in batch["origin"]]
    assert set(first) == set(range(8 - 4 + 1))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_ranks_sweep_windows_in_z_once_and_whole(store: Path, world: int, overlap: float) -> None:
    """Origins are in px of the windows, and tiles show what the whole volume has there."""
    rows = [np.zeros(5, int) for _ in range(2)]
    whole = views(store)
    for rank in range(world):
        data = attach_rank(data_of(store, overlap=overlap), rank, world)
        data.setup("validate")
        (loader,) = data.val_dataloader()
        dataset: Any = loader.dataset
        for span in dataset.sweep.spans:
            rows[span.mosaic][span.start : span.stop] += 1
        for batch in loader:
            for number, mosaic in enumerate(batch["mosaic"].tolist()):
                z, y, x = batch["origin"][number].tolist()
                assert 0 <= z <= 1
                expected = whole[mosaic].read_image((8 + z, y, x), PATCH)
                np.testing.assert_array_equal(batch["image"][number, 0], expected)
    assert all((seen == 1).all() for seen in rows)


def test_patches_deeper_than_their_sections_are_refused(store: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"patch of \(9, 16, 16\) px \(of 9 sections, but one of them has a depth of 8\): train/a\[0:8, .*",
    ):
        data_of(store, patch_size=[9, 16, 16]).setup("fit")
    data_of(store, patch_size=[9, 16, 16], allow_small=True).setup("fit")
    with pytest.raises(UserError, match=r"smaller than a patch of \(4, 60, 16\) px: train/a\[0:8"):
        data_of(store, patch_size=[4, 60, 16]).setup("fit")


def test_only_training_sections_count_as_foreground(tmp_path: Path) -> None:
    """The conversion's counts are of the whole volume, whose foreground may all lie where it validates."""
    mask = np.zeros((13, 20, 20), np.uint8)
    mask[8:, 5] = 1
    mask[3, 2:4] = 255
    write_mosaic(tmp_path / "s", "train/late", grey(mask.shape), mask)
    write_mosaic(tmp_path / "s", "train/early", grey(mask.shape), mask[::-1].copy())
    write_mosaic(tmp_path / "s", "train/never", grey(mask.shape), mask * 0)
    with pytest.raises(UserError, match=r"no foreground at all in the masks of train/late\[0:8.*\], train/never\[0:8"):
        data_of(tmp_path / "s").setup("fit")
    data_of(tmp_path / "s", allow_empty=True).setup("fit")
    data_of(tmp_path / "s").setup("validate")


def test_planes_of_the_sections_train(store: Path) -> None:
    data = data_of(store, planes="xy", patch_size=16)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (3, 1, 16, 16)
    assert {mosaic.shape[0] for mosaic in data.train_dataloader().dataset.mosaics} == {8}  # type: ignore[attr-defined]
