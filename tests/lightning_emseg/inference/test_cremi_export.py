"""Ids of exported clefts against scipy's components, and what a file holds byte for byte as h5py reads it."""

from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import label as scipy_label

from data_modules.errors import UserError
from data_modules.store import MosaicStore, Sample
from lightning_emseg.inference.cremi_export import Crop, predicted_clefts, write_clefts
from tests.support.cremi_predictions import (
    NOTHING,
    VOXEL_NM,
    Ids,
    Pixels,
    blobs,
    clefts_in,
    write_images,
    write_prediction,
)

KEY = "predict/sample-A+"
Mask = NDArray[np.bool_]


def full(mask: Mask) -> Pixels:
    return mask.astype(np.uint8) * np.uint8(255)


def predicted(folder: Path, probability: Pixels, level: int = 128) -> Sample:
    write_images(folder / "data.zarr", {KEY: probability.shape})
    write_prediction(folder / "data.zarr", folder / "out.zarr", {KEY: probability}, level)
    return MosaicStore(folder / "out.zarr").sample(KEY)


def assert_same_components(ids: Ids, mask: Mask) -> None:
    theirs, number = scipy_label(mask, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(ids != NOTHING, mask)
    pairs = set(zip(ids[mask].tolist(), theirs[mask].tolist(), strict=True))
    # As many pairs as ids on either side: they differ in their names alone.
    assert len(pairs) == number
    assert {mine for mine, _ in pairs} == set(range(1, number + 1))


@given(mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=11)))
def test_components_are_those_of_26_neighbours(tmp_path_factory: pytest.TempPathFactory, mask: Mask) -> None:
    folder = tmp_path_factory.mktemp("random")
    number = write_clefts(predicted_clefts(predicted(folder, full(mask))), folder / "c.hdf")
    ids = clefts_in(folder / "c.hdf")
    assert_same_components(ids, mask)
    assert number == len(set(ids[mask].tolist()))


def test_clefts_touching_at_a_corner_are_one(tmp_path: Path) -> None:
    mask = np.zeros((2, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert write_clefts(predicted_clefts(predicted(tmp_path, full(mask))), tmp_path / "c.hdf") == 1


def test_file_has_what_the_challenge_reads(tmp_path: Path) -> None:
    # More sections than a chunk and a shard, and no side that either divides.
    mask = blobs(0, (37, 50, 41))
    write_clefts(predicted_clefts(predicted(tmp_path, full(mask))), tmp_path / "c.hdf")
    assert_same_components(clefts_in(tmp_path / "c.hdf"), mask)
    with h5py.File(tmp_path / "c.hdf", "r") as file:
        dataset = file["volumes/labels/clefts"]
        assert dataset.dtype == np.uint64
        assert dataset.compression == "gzip"
        assert dataset.chunks == (8, 50, 41)
        assert tuple(dataset.attrs["resolution"]) == VOXEL_NM
        assert tuple(dataset.attrs["offset"]) == (0.0, 0.0, 0.0)
        assert file.attrs["file_format"] == "0.2"
        assert list(file["volumes"]) == ["labels"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []


def test_crops_are_written_with_their_offset(tmp_path: Path) -> None:
    mask = blobs(1, (21, 30, 34))
    crop = Crop((3, 5, 7), (13, 20, 19))
    write_clefts(predicted_clefts(predicted(tmp_path, full(mask)), crop), tmp_path / "c.hdf")
    assert_same_components(clefts_in(tmp_path / "c.hdf"), mask[3:16, 5:25, 7:26])
    with h5py.File(tmp_path / "c.hdf", "r") as file:
        assert tuple(file["volumes/labels/clefts"].attrs["offset"]) == (120.0, 20.0, 28.0)


@pytest.mark.parametrize(("threshold", "lowest"), [(None, 200), (0.5, 128), (1.0, 255), (1 / 255, 1)])
def test_threshold_defaults_to_that_of_the_prediction(tmp_path: Path, threshold: float | None, lowest: int) -> None:
    probability = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype=np.uint8)
    clefts = predicted_clefts(predicted(tmp_path, probability, level=200), threshold=threshold)
    write_clefts(clefts, tmp_path / "c.hdf")
    np.testing.assert_array_equal(clefts_in(tmp_path / "c.hdf") != NOTHING, probability >= lowest)


def test_nothing_predicted_is_all_background(tmp_path: Path) -> None:
    empty = predicted_clefts(predicted(tmp_path, np.zeros((3, 10, 10), np.uint8)))
    assert write_clefts(empty, tmp_path / "c.hdf") == 0
    assert (clefts_in(tmp_path / "c.hdf") == NOTHING).all()


def test_failed_writes_leave_the_old_file(tmp_path: Path) -> None:
    mask = blobs(2, (9, 20, 20))
    clefts = predicted_clefts(predicted(tmp_path, full(mask)))
    target = tmp_path / "files" / "c.hdf"
    target.parent.mkdir()
    target.write_bytes(b"old")
    failing = mock.patch.object(h5py.Dataset, "__setitem__", side_effect=OSError(28, "No space left on device"))
    with failing, pytest.raises(UserError, match=r"c\.hdf cannot be written: .*No space left"):
        write_clefts(clefts, target)
    assert [path.name for path in target.parent.iterdir()] == ["c.hdf"]
    assert target.read_bytes() == b"old"
