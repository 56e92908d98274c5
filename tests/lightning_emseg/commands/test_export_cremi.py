"""CREMI's files in and out: converted, predicted, exported, and read and scored as the challenge does."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from data_modules.convert.benchmarks.cremi import convert_cremi
from data_modules.errors import UserError
from data_modules.store import MosaicStore, read
from lightning_emseg.callbacks import PredictionWriter
from lightning_emseg.commands import main
from lightning_emseg.commands.export import cremi
from lightning_emseg.metrics.classes import CleftDistances
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from tests.support import tiny
from tests.support.cremi_predictions import (
    NOTHING,
    VOXEL_NM,
    CleftsOfTheChallenge,
    blobs,
    clefts_in,
    write_file,
    write_images,
    write_prediction,
    write_truth,
)

SHAPE = (18, 40, 44)


def probability_of(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, 201, 30).astype(np.uint8)


def in_store(store: Path, key: str, label: str) -> NDArray[Any]:
    found = MosaicStore(store).sample(key).label(label)
    return read(found, [slice(0, side) for side in found.shape])


def test_exported_files_keep_foreground_and_score(tmp_path: Path) -> None:
    files, truth = tmp_path / "files", {}
    files.mkdir()
    raw = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    for seed, letter in enumerate("AB"):
        truth[letter] = np.where(blobs(seed, SHAPE), np.uint64(7 + seed), np.uint64(NOTHING))
        write_file(files / f"sample_{letter}+_20160601.hdf", raw)
    keys = convert_cremi(files, tmp_path / "d.zarr", "", "", "A+,B+")
    assert keys == ["predict/sample-A+", "predict/sample-B+"]

    masks = {key: np.roll(blobs(seed, SHAPE), 3, axis=2) for seed, key in enumerate(keys)}
    probabilities = {key: probability_of(mask) for key, mask in masks.items()}
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", probabilities)
    said = cremi(tmp_path / "p.zarr", tmp_path / "out")

    for letter, key in zip("AB", keys, strict=True):
        path = tmp_path / "out" / f"sample_{letter}+_20160601.hdf"
        assert str(path) in said
        ids = clefts_in(path)
        np.testing.assert_array_equal(ids != NOTHING, masks[key])
        with h5py.File(path, "r") as file:
            attributes = dict(file["volumes/labels/clefts"].attrs)
        assert tuple(attributes["resolution"]) == VOXEL_NM
        assert tuple(attributes["offset"]) == (0.0, 0.0, 0.0)

        theirs = CleftsOfTheChallenge(ids, truth[letter])
        adgt, adf = theirs.false_positives().mean(), theirs.false_negatives().mean()
        labels = (truth[letter] != NOTHING).astype(np.uint8)
        mine = CleftDistances().row(MosaicPair(labels, probabilities[key], 128, VOXEL_NM))
        assert adgt > 0
        assert adf > 0
        assert mine == pytest.approx((adgt, adf, (adgt + adf) / 2), rel=1e-6)


def test_predictions_of_unlabelled_volumes_are_exported(tmp_path: Path) -> None:
    raw, _ = tiny.content(SHAPE, 8)
    write_file(tmp_path / "sample_A+_20160601.hdf", raw)
    convert_cremi(tmp_path, tmp_path / "d.zarr", "", "", "A+")
    data = tiny.data_of(tmp_path / "d.zarr", label="cleft", patch_size=[8, 32, 32], predict_split="predict")
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(tmp_path / "p.zarr"))])
    trainer.predict(tiny.GreyModule(), data, return_predictions=False)
    cremi(tmp_path / "p.zarr", tmp_path / "out")
    cremi(tmp_path / "p.zarr", tmp_path / "sure", threshold=0.9)
    known = tiny.known_map(raw)
    assert 0 < np.mean(known >= 230) < np.mean(known >= 128) < 1
    for folder, level in (("out", 128), ("sure", 230)):
        ids = clefts_in(tmp_path / folder / "sample_A+_20160601.hdf")
        np.testing.assert_array_equal(ids != NOTHING, known >= level)


def test_the_converter_reads_exported_clefts_as_a_label(tmp_path: Path) -> None:
    mask = blobs(3, SHAPE)
    write_images(tmp_path / "d.zarr", {"predict/sample-A": SHAPE})
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", {"predict/sample-A": probability_of(mask)})
    cremi(tmp_path / "p.zarr", tmp_path / "out")
    with h5py.File(tmp_path / "out" / "sample_A_20160501.hdf", "a") as file:
        file["volumes/raw"] = np.zeros(SHAPE, np.uint8)
        file["volumes/raw"].attrs["resolution"] = VOXEL_NM
    with pytest.warns(UserWarning, match="no label neuron"):
        convert_cremi(tmp_path / "out", tmp_path / "again.zarr", "A", "")
    np.testing.assert_array_equal(in_store(tmp_path / "again.zarr", "train/sample-A", "cleft"), mask)


def test_crops_of_padded_volumes_keep_their_place(tmp_path: Path) -> None:
    files, first, size = tmp_path / "files", (4, 9, 11), (10, 20, 21)
    files.mkdir()
    raw = np.zeros(SHAPE, np.uint8)
    write_file(files / "sample_A+_padded_20160601.hdf", raw)
    convert_cremi(files, tmp_path / "d.zarr", "", "", "A+", padded=True)
    mask = blobs(4, SHAPE)
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", {"predict/sample-A+": probability_of(mask)})
    cremi(tmp_path / "p.zarr", tmp_path / "out", crop_first="4,9,11", crop_size="10,20,21")
    path = tmp_path / "out" / "sample_A+_20160601.hdf"
    inside = tuple(slice(start, start + side) for start, side in zip(first, size, strict=True))
    np.testing.assert_array_equal(clefts_in(path) != NOTHING, mask[inside])

    # Beside the padded raw volume, the offset puts them back where they were.
    with h5py.File(path, "r") as file:
        clefts = file["volumes/labels/clefts"]
        voxels = np.array(clefts.attrs["offset"]) / VOXEL_NM
        write_file(files / "sample_A_padded_20160501.hdf", raw, clefts[:], tuple(int(v) for v in voxels))
    with pytest.warns(UserWarning, match="no label neuron"):
        convert_cremi(files, tmp_path / "again.zarr", "A", "", padded=True)
    label = in_store(tmp_path / "again.zarr", "train/sample-A", "cleft")
    np.testing.assert_array_equal(label[inside], mask[inside])
    outside = np.ones(SHAPE, bool)
    outside[inside] = False
    assert (label[outside] == 255).all()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Predictions of two volumes, of which the second has marked voxels at one corner."""
    shapes: dict[str, tuple[int, ...]] = {"test/mine": (6, 20, 22), "test/other": (6, 20, 22)}
    write_images(tmp_path / "d.zarr", shapes)
    marked = np.zeros((6, 20, 22), bool)
    marked[5, 19, 20:] = True
    probabilities = {key: probability_of(blobs(5, shape)) for key, shape in shapes.items()}
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", probabilities, invalid={"test/other": marked})
    return tmp_path / "p.zarr"


@pytest.mark.parametrize("threshold", [None, 0.4])
def test_marked_voxels_are_refused_before_anything_is_written(
    bare: Path, tmp_path: Path, threshold: float | None
) -> None:
    with pytest.raises(UserError, match="test/other: 2 voxels are marked as not predicted"):
        cremi(bare, tmp_path / "out", threshold)
    assert not (tmp_path / "out").exists()
    cremi(bare, tmp_path / "out", threshold, crop_first="0,0,0", crop_size="5,20,22")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.hdf", "other.hdf"]


def test_existing_files_stay_unless_told_otherwise(bare: Path, tmp_path: Path) -> None:
    part: dict[str, Any] = {"crop_first": "0,0,0", "crop_size": "5,20,22"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other.hdf").write_bytes(b"old")
    with pytest.raises(UserError, match=r"already has other\.hdf: choose another --out, or pass --overwrite"):
        cremi(bare, tmp_path / "out", **part)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other.hdf"]
    cremi(bare, tmp_path / "out", overwrite=True, **part)
    assert clefts_in(tmp_path / "out" / "other.hdf").shape == (5, 20, 22)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "--threshold 0: give a probability above 0, up to 1"),
        ({"threshold": 128.0}, "--threshold 128"),
        ({"crop_first": "1,2,3"}, "belong together"),
        ({"crop_first": "1,2", "crop_size": "1,1,1"}, "--crop-first '1,2': give Z,Y,X"),
        ({"crop_first": "-1,2,3", "crop_size": "1,1,1"}, "voxels should be 0 or more"),
        ({"crop_first": "1,2,3", "crop_size": "1,0,1"}, "voxels should be 1 or more"),
        ({"crop_first": "1,2,3", "crop_size": "6,5,5"}, r"test/mine has \(6, 20, 22\) voxels, the crop of \(6, 5, 5\)"),
    ],
)
def test_options_that_cannot_be_are_named(bare: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cremi(bare, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_stores_without_cleft_predictions_are_refused(tmp_path: Path) -> None:
    image, mask = tiny.content((30, 40), 0)
    tiny.write_sample(tmp_path / "flat.zarr", "test/m0", image, mask)
    with pytest.raises(UserError, match="test/m0 is 2D"):
        cremi(tmp_path / "flat.zarr")
    write_truth(tmp_path / "truth.zarr", "test/v", np.zeros((3, 5, 5), np.uint8))
    with pytest.raises(UserError, match="test/v is no prediction, its labels are cleft"):
        cremi(tmp_path / "truth.zarr")
    write_images(tmp_path / "d.zarr", {"test/v": (3, 5, 5)})
    with pytest.raises(UserError, match="test/v is no prediction, its labels are none"):
        cremi(tmp_path / "d.zarr")
    probabilities = {"test/v": np.zeros((3, 5, 5), np.uint8)}
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", probabilities, classes=("nothing", "cleft", "vesicle"))
    with pytest.raises(UserError, match="classes nothing, cleft, vesicle: clefts are one foreground"):
        cremi(tmp_path / "p.zarr")
    with pytest.raises(UserError, match=r"absent\.zarr"):
        cremi(tmp_path / "absent.zarr")


def test_samples_that_would_become_one_file_are_named(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {"test/v": (3, 5, 5), "train/v": (3, 5, 5)}
    write_images(tmp_path / "d.zarr", shapes)
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", {key: np.zeros((3, 5, 5), np.uint8) for key in shapes})
    with pytest.raises(UserError, match=r"test/v and train/v would both become v\.hdf"):
        cremi(tmp_path / "p.zarr")


def test_two_classes_are_background_and_clefts(tmp_path: Path) -> None:
    mask = blobs(6, (6, 20, 20))
    write_images(tmp_path / "d.zarr", {"test/v": mask.shape})
    write_prediction(
        tmp_path / "d.zarr", tmp_path / "p.zarr", {"test/v": probability_of(mask)}, classes=("no", "cleft")
    )
    cremi(tmp_path / "p.zarr", tmp_path / "out")
    np.testing.assert_array_equal(clefts_in(tmp_path / "out" / "v.hdf") != NOTHING, mask)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((6, 20, 20), bool)
    mask[1, 2:5, 3] = mask[4, 8, 9:12] = True
    write_images(tmp_path / "d.zarr", {"predict/sample-C+": mask.shape})
    write_prediction(tmp_path / "d.zarr", tmp_path / "p.zarr", {"predict/sample-C+": probability_of(mask)})
    main(["export", "cremi", str(tmp_path / "p.zarr"), "--crop-first", "1,0,0", "--crop-size", "5,20,20"])
    path = tmp_path / "p.zarr-cremi" / "sample_C+_20160601.hdf"
    assert f"{path}: 2 clefts in 5 × 20 × 20 voxels of 40 × 4 × 4 nm" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"already has sample_C\+_20160601\.hdf"):
        main(["export", "cremi", str(tmp_path / "p.zarr")])
    main(["export", "cremi", str(tmp_path / "p.zarr"), "--threshold", "0.9", "--overwrite"])
    assert "0 clefts in 6 × 20 × 20 voxels of 40 × 4 × 4 nm: nothing is predicted" in capsys.readouterr().out
