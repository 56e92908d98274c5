"""Damaged chunks cost the patches that need them, and nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.mosaic import Mosaic
from data_modules.patches.dataset import PatchDataset
from data_modules.patches.loaders import Patch
from data_modules.store import MosaicView
from tests.support.mosaic_checks import Bytes, views, write_random

# Two chunks of 512 px wide.
WIDE, SMALL = (64, 700), (64, 64)
LEFT, ACROSS, RIGHT, OTHER = Patch(0, (0, 10), 4), Patch(0, (16, 500), 5), Patch(0, (3, 600), 6), Patch(1, (0, 0), 7)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def fresh(store: Path) -> tuple[list[MosaicView], list[tuple[Bytes, Bytes]]]:
    pixels = write_random(store, {"train/a": WIDE, "train/b": SMALL})
    return views(store), list(pixels.values())


def _damage_right_chunk(store: Path, pixels: Bytes, array: str) -> None:
    (shard,) = (path for path in (store / "train" / "a" / array / "c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    # Images are stored as they are, so that a row of the second chunk can be found.
    content[content.index(pixels[5, 520:690].tobytes())] ^= 1
    shard.write_bytes(content)


def test_only_patches_on_damaged_chunks_are_left_out(fresh: Written, store: Path) -> None:
    mosaics, pixels = fresh
    patches = [ACROSS, LEFT, RIGHT, OTHER]
    _damage_right_chunk(store, pixels[0][0], "0")
    with pytest.warns(UserWarning, match=r"at \(\d+, \d+\) of train/a is left out: .*is damaged in region") as caught:
        batch = PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__(patches)
    assert len(caught) == 2
    assert batch["index"].tolist() == [5, 4, 6, 7]
    assert batch["origin"].tolist() == [list(patch.origin) for patch in patches]
    assert batch["mosaic"].tolist() == [0, 0, 0, 1]
    for number, patch in enumerate(patches):
        left_out = patch in (ACROSS, RIGHT)
        shown = LEFT if left_out else patch
        y, x = shown.origin
        image, mask = (array[y : y + 32, x : x + 32] for array in pixels[shown.mosaic])
        np.testing.assert_array_equal(batch["image"][number, 0].numpy(), image)
        np.testing.assert_array_equal(batch["mask"][number].numpy(), np.full((32, 32), 255) if left_out else mask)


def test_missing_labels_are_left_out_too(fresh: Written, store: Path) -> None:
    mosaics, _ = fresh
    (label,) = (store / "train" / "a" / "labels").glob("*/0/c")
    shutil.rmtree(label)
    with pytest.warns(UserWarning, match="is missing in region"):
        batch = PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__([LEFT, OTHER])
    assert [bool((mask == 255).all()) for mask in batch["mask"]] == [True, False]


def test_whole_stores_give_what_they_always_give(fresh: Written) -> None:
    mosaics, _ = fresh
    patches = [OTHER, RIGHT, LEFT]
    expected, found = (
        PatchDataset(mosaics, (32, 32), skip_damaged=skip).__getitems__(patches) for skip in (False, True)
    )
    assert expected.keys() == found.keys()
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])  # type: ignore[literal-required]


@pytest.mark.filterwarnings("ignore:the patch at")
def test_a_wholly_damaged_batch_ends_the_run(fresh: Written, store: Path) -> None:
    mosaics, pixels = fresh
    _damage_right_chunk(store, pixels[0][0], "0")
    with pytest.raises(UserError, match=r"no patch of a batch could be read.*\(train/a\).*data verify"):
        PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__([ACROSS, RIGHT])


def test_a_store_that_has_gone_is_not_skipped(fresh: Written, store: Path) -> None:
    mosaics, _ = fresh
    shutil.rmtree(store / "train" / "a")
    with pytest.raises(UserError, match="has gone since this run opened it"):
        PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__([LEFT, OTHER])


def test_data_modules_skip_damage_when_asked(tiny_store: Path) -> None:
    for choice, skipped in (("stop", False), ("skip", True)):
        data = Mosaic(str(tiny_store), patch_size=64, patches_per_epoch=2, on_damage=choice)  # type: ignore[arg-type]
        data.setup("fit")
        dataset = data.train_dataloader().dataset
        assert isinstance(dataset, PatchDataset)
        assert dataset.skip_damaged == skipped
