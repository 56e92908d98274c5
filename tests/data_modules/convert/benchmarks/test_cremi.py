import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_modules.convert.benchmarks.cremi import convert_cremi
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.benchmark_trees import BACKGROUND, cremi
from tests.support.convert_checks import Pixels, attributes, pixel_size, stored


def expected_cleft(clefts: Pixels) -> Pixels:
    mask: Pixels = (clefts != BACKGROUND).astype(np.uint8)
    mask[0, 0, :2] = 255
    return mask


def test_cropped_samples_by_split(tmp_path: Path) -> None:
    saved = {letter: cremi(tmp_path / f"sample_{letter}_20160501.hdf", seed) for seed, letter in enumerate("ABC")}
    out = tmp_path / "o.zarr"
    assert convert_cremi(tmp_path, out) == ["train/sample-A", "train/sample-B", "test/sample-C"]
    for key in ("train/sample-A", "train/sample-B", "test/sample-C"):
        raw, clefts, neurons = saved[key[-1]]
        np.testing.assert_array_equal(stored(out, key), raw)
        np.testing.assert_array_equal(stored(out, key, "cleft"), expected_cleft(clefts))
        assert stored(out, key, "cleft")[0, 0, :4].tolist() == [255, 255, 0, 0]
        ids = neurons.copy()
        ids[0, 0, 0] = 0
        np.testing.assert_array_equal(stored(out, key, "neuron"), ids)
        assert pixel_size(out, key) == [40.0, 4.0, 4.0]
    assert attributes(out, "test/sample-C", "neuron")["emseg"]["kind"] == "instances"
    assert not verify(MosaicStore(out))


def test_padded_samples_keep_all_of_the_raw_volume(tmp_path: Path) -> None:
    cremi(tmp_path / "sample_A_20160501.hdf", 1)
    # Labels begin behind the first slab, and the last has none at all.
    raw, clefts, neurons = cremi(tmp_path / "sample_A_padded_20160501.hdf", 2, (37, 3, 2))
    out = tmp_path / "o.zarr"
    assert convert_cremi(tmp_path, out, "A", "", padded=True) == ["train/sample-A"]
    np.testing.assert_array_equal(stored(out, "train/sample-A"), raw)
    cleft, neuron = stored(out, "train/sample-A", "cleft"), stored(out, "train/sample-A", "neuron")
    inside = slice(37, 41), slice(3, 13), slice(2, 14)
    np.testing.assert_array_equal(cleft[inside], expected_cleft(clefts))
    np.testing.assert_array_equal(neuron[inside][1:], neurons[1:])
    outside = np.ones(raw.shape, bool)
    outside[inside] = False
    assert (cleft[outside] == 255).all()
    assert not neuron[outside].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": "A,C", "test": "C"}, "samples C are in --train and in --test"),
        ({"train": "", "test": ""}, "all empty"),
        ({"test": "D"}, r"has no sample_D_20160501\.hdf: --root should hold a file sample_A"),
        ({"padded": True}, r"no sample_A_padded_20160501\.hdf: .*or leave out --padded"),
        ({"train": "E"}, "several files of sample E"),
        ({"train": "F"}, r"sample_F_20160501\.hdf has no volumes/raw"),
        ({"train": "G"}, r"clefts with \(4, 10, 12\) px at \(40\.0, 0\.0, 0\.0\) nm does not fit"),
        ({"train": "H"}, r"sample_H_20160501\.hdf cannot be read, it may be truncated"),
        ({"train": "I"}, r"sample_I_20160501\.hdf:volumes/raw has no attribute resolution .*--resolution 40,4,4"),
        ({"predict": "B"}, "samples B are in --train and in --predict"),
        ({"test": "", "predict": "D+"}, r"has no sample_D\+_20160601\.hdf"),
        ({"resolution": "4,4"}, "--resolution 4,4: a volume needs Z,Y,X"),
        ({"resolution": "4,4,x"}, "--resolution: '4,4,x' is no pixel size"),
        ({"train": "J"}, r"clefts is of \(80\.0, 4\.0, 4\.0\) nm but volumes/raw of \(40\.0"),
        ({"train": "K"}, r"attribute resolution \[40\.0, 4\.0\]: it should be three numbers"),
        ({"train": "L"}, r"volumes/raw has shape \(10, 12\): it should have three axes"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    for letter in "ABCEFGHIJKL":
        cremi(tmp_path / f"sample_{letter}_20160501.hdf", 0)
    cremi(tmp_path / "sample_E_20170424.hdf", 0)
    with h5py.File(tmp_path / "sample_F_20160501.hdf", "a") as file:
        del file["volumes/raw"]
    with h5py.File(tmp_path / "sample_G_20160501.hdf", "a") as file:
        file["volumes/labels/clefts"].attrs["offset"] = [40.0, 0.0, 0.0]
    whole = (tmp_path / "sample_H_20160501.hdf").read_bytes()
    (tmp_path / "sample_H_20160501.hdf").write_bytes(whole[:1000])
    with h5py.File(tmp_path / "sample_I_20160501.hdf", "a") as file:
        del file["volumes/raw"].attrs["resolution"]
    with h5py.File(tmp_path / "sample_J_20160501.hdf", "a") as file:
        file["volumes/labels/clefts"].attrs["resolution"] = [80.0, 4.0, 4.0]
    with h5py.File(tmp_path / "sample_K_20160501.hdf", "a") as file:
        file["volumes/raw"].attrs["resolution"] = [40.0, 4.0]
    with h5py.File(tmp_path / "sample_L_20160501.hdf", "a") as file:
        del file["volumes/raw"]
        file["volumes/raw"] = np.zeros((10, 12), np.uint8)
    with pytest.raises(UserError, match=message):
        convert_cremi(tmp_path, tmp_path / "o.zarr", **arguments)
    assert not (tmp_path / "o.zarr").exists()


def test_the_missing_padded_option_is_named(tmp_path: Path) -> None:
    cremi(tmp_path / "sample_A_padded_20160501.hdf", 0, (1, 1, 1))
    with pytest.raises(UserError, match="or pass --padded"):
        convert_cremi(tmp_path, tmp_path / "o.zarr", "A", "")


def without(path: Path, *names: str) -> None:
    with h5py.File(path, "a") as file:
        for name in names:
            del file[name]


def test_samples_to_predict_have_only_a_raw_volume(tmp_path: Path) -> None:
    raw = {}
    for seed, letter in enumerate(("A", "A+", "B+")):
        date = "20160601" if letter.endswith("+") else "20160501"
        raw[letter] = cremi(tmp_path / f"sample_{letter}_{date}.hdf", seed)[0]
    without(tmp_path / "sample_A+_20160601.hdf", "volumes/labels")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keys = convert_cremi(tmp_path, tmp_path / "o.zarr", "A", "", "A+, b+")
    assert keys == ["train/sample-A", "predict/sample-A+", "predict/sample-B+"]
    for key in keys:
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key), raw[key.split("-")[1]])
    store = MosaicStore(tmp_path / "o.zarr")
    assert sorted(store.sample("train/sample-A").labels) == ["cleft", "neuron"]
    assert [dict(sample.labels) for sample in store.samples("predict")] == [{}, {}]
    assert not verify(store)


def test_padded_samples_to_predict(tmp_path: Path) -> None:
    cremi(tmp_path / "sample_A+_20160601.hdf", 0)
    raw = cremi(tmp_path / "sample_A+_padded_20160601.hdf", 1, (1, 2, 3))[0]
    without(tmp_path / "sample_A+_padded_20160601.hdf", "volumes/labels")
    assert convert_cremi(tmp_path, tmp_path / "o.zarr", "", "", "A+", padded=True) == ["predict/sample-A+"]
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "predict/sample-A+"), raw)


def test_all_three_samples_can_be_training_samples(tmp_path: Path) -> None:
    for seed, letter in enumerate("ABC"):
        cremi(tmp_path / f"sample_{letter}_20160501.hdf", seed)
    keys = convert_cremi(tmp_path, tmp_path / "o.zarr", "A,B,C", "")
    assert keys == ["train/sample-A", "train/sample-B", "train/sample-C"]
    assert MosaicStore(tmp_path / "o.zarr").splits == ["train"]


@pytest.mark.parametrize(
    ("absent", "label", "kept"), [("neuron_ids", "neuron", ["cleft"]), ("clefts", "cleft", ["neuron"])]
)
def test_a_missing_label_is_left_out_with_warning(tmp_path: Path, absent: str, label: str, kept: list[str]) -> None:
    raw = cremi(tmp_path / "sample_B_20160501.hdf", 0)[0]
    without(tmp_path / "sample_B_20160501.hdf", f"volumes/labels/{absent}")
    said = rf"sample_B_20160501\.hdf has no volumes/labels/{absent}: train/sample-B gets no label {label}"
    with pytest.warns(UserWarning, match=said):
        convert_cremi(tmp_path, tmp_path / "o.zarr", "B", "")
    assert sorted(MosaicStore(tmp_path / "o.zarr").sample("train/sample-B").labels) == kept
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/sample-B"), raw)


def test_a_given_resolution_fills_in_missing_ones(tmp_path: Path) -> None:
    for seed, letter in enumerate("AB"):
        cremi(tmp_path / f"sample_{letter}_20160501.hdf", seed)
    with h5py.File(tmp_path / "sample_A_20160501.hdf", "a") as file:
        for name in ("raw", "labels/clefts", "labels/neuron_ids"):
            del file[f"volumes/{name}"].attrs["resolution"]
    with pytest.warns(UserWarning, match=r"sample_B_20160501\.hdf:volumes/raw states \(40\.0, 4\.0, 4\.0\) nm") as said:
        convert_cremi(tmp_path, tmp_path / "o.zarr", resolution="50,5,5", test="")
    assert len(said) == 1
    assert pixel_size(tmp_path / "o.zarr", "train/sample-A") == [50.0, 5.0, 5.0]
    assert pixel_size(tmp_path / "o.zarr", "train/sample-B") == [40.0, 4.0, 4.0]


def write(path: Path, volume: Pixels, resolution: tuple[float, ...]) -> None:
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = volume
        file["volumes/raw"].attrs["resolution"] = resolution


@pytest.mark.parametrize(
    ("shape", "resolution", "message"),
    [
        ((5, 50, 50), (4.0, 4.0, 40.0), r"\(5, 50, 50\) px of \(4, 4, 40\) nm .*40 nm.* is that of axis 2"),
        ((50, 50, 5), (4.0, 4.0, 40.0), r"\(50, 50, 5\) px of \(4, 4, 40\) nm .*40 nm.* is that of axis 2"),
        ((50, 50, 5), (40.0, 4.0, 4.0), r"\(50, 50, 5\) px of \(40, 4, 4\) nm .*axis 2 has by far the fewest"),
    ],
)
def test_volumes_in_another_axis_order_are_refused(
    tmp_path: Path, shape: tuple[int, ...], resolution: tuple[float, ...], message: str
) -> None:
    write(tmp_path / "sample_A+_20160601.hdf", np.zeros(shape, np.uint8), resolution)
    with pytest.raises(UserError, match=rf"sample_A\+_20160601\.hdf:volumes/raw with {message}"):
        convert_cremi(tmp_path, tmp_path / "o.zarr", "", "", "A+")
    assert not (tmp_path / "o.zarr").exists()


def test_isotropic_volumes_may_have_any_shape(tmp_path: Path) -> None:
    write(tmp_path / "sample_A+_20160601.hdf", np.ones((50, 50, 5), np.uint8), (4.0, 4.0, 4.0))
    assert convert_cremi(tmp_path, tmp_path / "o.zarr", "", "", "A+") == ["predict/sample-A+"]
