"""The data module of CREMI: defaults of the paper, and mistakes that it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.augment.images import Augment
from data_modules.augment.volumes import VolumeAugment
from data_modules.cremi import CREMI
from data_modules.errors import UserError
from data_modules.patches.sampling import ForegroundPatches, RandomPatches
from data_modules.patches.splits import MosaicSplit, SectionSplit
from tests.support import tiny
from tests.support.cleft_store import SHAPE, SPLIT, make_store


@pytest.fixture(scope="module")
def clefts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("clefts") / "c.zarr")


def test_defaults_are_those_of_the_paper() -> None:
    data = CREMI("s")
    assert data.label == "cleft"
    assert data.patch_shape(3) == (8, 256, 256)
    assert isinstance(data.sampling, ForegroundPatches)
    assert (data.sampling.min_pixels, data.sampling.reject) == (200, 0.95)
    assert isinstance(data.split, SectionSplit)
    assert (data.split.source, data.split.train, data.split.val) == ("train", 100, 25)
    changed = CREMI("s", 64, RandomPatches(), MosaicSplit(), planes="xy", batch_size=7, augment=VolumeAugment())
    assert isinstance(changed.sampling, RandomPatches)
    assert isinstance(changed.split, MosaicSplit)
    assert (changed.batch_size, changed.patch_shape(3)) == (7, (1, 64, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [16, 32, 32]}, r"of 16 sections, but one of them has a depth of 12\): train/sample-A\[0:12"),
        (
            {"split": None},
            r"train/sample-A \(20\), train/sample-B \(20\) have too few sections for train 100 and val 25",
        ),
        ({"augment": Augment()}, "Augment works on 2D patches, not on volumes: pass .*VolumeAugment"),
        ({"planes": "xy", "patch_size": 32}, "VolumeAugment works on volumes, not on 2D patches"),
    ],
)
def test_mistakes_are_refused_before_training(clefts: Path, changes: dict[str, Any], message: str) -> None:
    options = {"patch_size": [8, 32, 32], "split": SectionSplit(**SPLIT), "augment": VolumeAugment(), **changes}
    with pytest.raises(UserError, match=message):
        CREMI(str(clefts), **options).setup("fit")


def test_volumes_without_clefts_where_they_train_are_named(tmp_path: Path) -> None:
    image, mask = tiny.content(SHAPE, 0)
    mask[:12] = 0
    tiny.write_sample(tmp_path / "c.zarr", "train/sample-A", image, mask, "cleft")
    data = CREMI(str(tmp_path / "c.zarr"), [8, 32, 32], split=SectionSplit(train=12, val=8))
    with pytest.raises(UserError, match=r"no foreground at all in the masks of train/sample-A\[0:12, 0:48, 0:40\]"):
        data.setup("fit")
    assert np.count_nonzero(mask == 1), "there are clefts, but all where it validates"
