from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile

from data_modules.convert.benchmarks.organelles import convert_guay, convert_perez, convert_urocell, without_rows
from data_modules.errors import UserError
from data_modules.images.image import stored_array
from data_modules.store import MosaicStore, verify
from tests.support.benchmark_trees import UROCELL, grey, guay, nifti, perez, urocell
from tests.support.convert_checks import attributes, pixel_size, provenance, save, stored


def test_three_volumes_of_seven_classes(tmp_path: Path) -> None:
    saved = guay(tmp_path / "platelet_data")
    out = tmp_path / "o.zarr"
    assert convert_guay(tmp_path, out) == ["train/guay", "val/guay", "test/guay"]
    for split, name in (("train", "train"), ("val", "eval"), ("test", "test")):
        image, labels = saved[name]
        shifted = image.astype(float) - image.min()
        # The authors' own preparation rounds down instead.
        assert np.abs(stored(out, f"{split}/guay") - shifted / shifted.max() * 255).max() <= 0.5
        expected = np.where(labels == 0, 255, labels) if split == "test" else labels
        np.testing.assert_array_equal(stored(out, f"{split}/guay", "organelle"), expected)
        assert pixel_size(out, f"{split}/guay") == [40.0, 10.0, 10.0]
        assert provenance(out, f"{split}/guay")["grey"]["lo"] == image.min()
        info = MosaicStore(out).sample(f"{split}/guay").label("organelle").info
        assert info is not None
        assert (info.kind, len(info.classes), info.classes[2]) == ("classes", 7, "mitochondrion")
    assert attributes(out, "test/guay", "organelle")["emseg"]["counts"]["255"] == (saved["test"][1] == 0).sum()
    assert not verify(MosaicStore(out))


def test_other_pixel_sizes_may_be_given(tmp_path: Path) -> None:
    guay(tmp_path)
    convert_guay(tmp_path, tmp_path / "o.zarr", "50,10.1,10.1")
    assert pixel_size(tmp_path / "o.zarr", "val/guay") == [50.0, 10.1, 10.1]


def test_platelets_that_do_not_fit_are_named(tmp_path: Path) -> None:
    guay(tmp_path)
    out = tmp_path / "o.zarr"
    labels = tmp_path / "eval-labels.tif"
    whole = labels.read_bytes()
    tifffile.imwrite(labels, np.full((3, 9, 11), 7, np.uint16), photometric="minisblack")
    with pytest.raises(UserError, match=r"eval-labels\.tif \(section 0\) has values that --classes does not name: 7"):
        convert_guay(tmp_path, out)
    labels.write_bytes(whole[:-200])
    with pytest.raises(UserError, match=r"eval-labels\.tif .*truncated"):
        convert_guay(tmp_path, out, overwrite=True)
    labels.unlink()
    with pytest.raises(UserError, match=r"has no eval-labels\.tif: --root should hold train-images\.tif"):
        convert_guay(tmp_path, out, overwrite=True)
    assert not (out / "val" / "guay").exists()


Organelle = Literal["lysosomes", "mitochondria", "nuclei", "nucleoli"]


@pytest.mark.parametrize(
    ("organelle", "label"),
    [("lysosomes", "lysosome"), ("mitochondria", "mitochondrion"), ("nuclei", "nucleus"), ("nucleoli", "nucleolus")],
)
def test_each_organelle_is_a_binary_image_set(tmp_path: Path, organelle: Organelle, label: str) -> None:
    masks = perez(tmp_path / "supplemental_data", organelle)
    assert convert_perez(tmp_path, tmp_path / "o.zarr", organelle, 7.8) == list(masks)
    assert list(masks) == ["train/0003", "train/0012", "test/0003", "test/0012"]
    for key, mask in masks.items():
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, label), mask)
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key), grey(int(key[-2:]), (14, 10)))
        assert list(MosaicStore(tmp_path / "o.zarr").sample(key).labels) == [label]
    assert pixel_size(tmp_path / "o.zarr", "test/0003") == [7.8, 7.8]
    assert provenance(tmp_path / "o.zarr", "test/0003")["source"] == f"test_images/{organelle}/test_orig.003.png"
    source = provenance(tmp_path / "o.zarr", "test/0003", label)["source"]
    assert source == f"ground_truth/{organelle}/test_label.003.png"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    perez(tmp_path, "nuclei")
    with pytest.raises(UserError, match=r"has no training_images/nucleoli, .*--root should hold training_images"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nucleoli", 7.8)
    with pytest.raises(UserError, match=r"--pixel-size-nm 0\.0"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nuclei", 0.0)
    (tmp_path / "ground_truth" / "nuclei" / "test_label.012.png").unlink()
    with pytest.raises(UserError, match=r"images without a label: .*test_orig\.012\.png"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nuclei", 7.8)
    save(tmp_path / "ground_truth" / "nuclei" / "test_label.012.png", grey(0, (14, 10)))
    with pytest.raises(UserError, match=r"test_label\.012\.png is no binary mask"):
        convert_perez(tmp_path, tmp_path / "o.zarr", "nuclei", 7.8)


def test_volumes_are_turned_cropped_and_split(tmp_path: Path) -> None:
    saved = urocell(tmp_path / "UroCell-master")
    out = tmp_path / "o.zarr"
    assert convert_urocell(tmp_path, out) == [f"{'test' if n == 'fib1-0-0-0' else 'train'}/{n}" for n in UROCELL]
    rows = {"fib1-0-0-0": 12, "fib1-1-0-3": 54}
    for name, (image, lysosomes, mitochondria) in saved.items():
        key = f"{'test' if name == 'fib1-0-0-0' else 'train'}/{name}"
        written, label = stored(out, key), stored(out, key, "organelle")
        cut = rows.get(name, 0)
        assert written.shape == (5, 60 - cut, 7)
        # One voxel after the other, so that no transposition of ours can hide one of the test's.
        for z, y, x in np.ndindex(written.shape):
            here = x, y + cut, z
            assert written[z, y, x] == image[here]
            assert label[z, y, x] == (2 if mitochondria[here] else 1 if lysosomes[here] else 0)
        assert pixel_size(out, key) == [15.0, 16.47, 16.47]
    info = MosaicStore(out).sample("test/fib1-0-0-0").label("organelle").info
    assert info is not None
    assert dict(info.classes) == {0: "background", 1: "lysosome", 2: "mitochondrion"}
    assert provenance(out, "train/fib1-1-0-3")["rows_cut_off"] == 54
    sources = provenance(out, "train/fib1-3-2-1", "organelle")["sources"]
    assert sources == ["lyso/fib1-3-2-1.nii.gz", "mito/instance/fib1-3-2-1.nii.gz"]
    assert not verify(MosaicStore(out))


def test_further_organelles_leave_out_volumes_without_them(tmp_path: Path) -> None:
    urocell(tmp_path)
    there = np.zeros((7, 60, 5), np.uint8)
    there[3] = 1
    for name in ("fib1-0-0-0", "fib1-4-3-0"):
        nifti(tmp_path / "golgi" / "approximate" / f"{name}.nii.gz", 1 - there)
    nifti(tmp_path / "golgi" / "precise" / "fib1-4-3-0.nii.gz", there)
    out = tmp_path / "o.zarr"
    with (
        pytest.warns(UserWarning, match=r"left out, since not annotated: fib1-1-0-3 \(golgi\), fib1-3-2-1"),
        pytest.warns(UserWarning, match="overlaps another organelle"),
    ):
        keys = convert_urocell(tmp_path, out, "lysosome, golgi")
    assert keys == ["test/fib1-0-0-0", "train/fib1-4-3-0"]
    label = stored(out, "train/fib1-4-3-0", "organelle")
    assert (label[:, :, 3] == 2).all()
    assert set(np.unique(label[:, :, :3])) == {0, 1}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    urocell(tmp_path)
    out = tmp_path / "o.zarr"
    with pytest.raises(UserError, match=r"--organelles 'nucleus': give any of lysosome"):
        convert_urocell(tmp_path, out, "nucleus")
    nifti(tmp_path / "mito" / "fib1-0-0-0.nii.gz", np.zeros((7, 60, 4), np.uint8))
    with pytest.raises(UserError, match=r"mito.fib1-0-0-0\.nii\.gz is \(4, 48, 7\) px but .*lyso.fib1-0-0-0"):
        convert_urocell(tmp_path, out)
    whole = (tmp_path / "mito" / "fib1-4-3-0.nii.gz").read_bytes()
    (tmp_path / "mito" / "fib1-0-0-0.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"fib1-0-0-0\.nii\.gz cannot be read, it may be truncated"):
        convert_urocell(tmp_path, out)
    (tmp_path / "mito" / "fib1-0-0-0.nii.gz").unlink()
    with pytest.raises(UserError, match=r"no annotation for fib1-0-0-0 \(mitochondrion\), so that train or test"):
        convert_urocell(tmp_path, out)
    (tmp_path / "data" / "fib1-3-3-0.nii.gz").unlink()
    with pytest.raises(UserError, match=r"has no data/fib1-3-3-0\.nii\.gz: --root should hold data, lyso and mito"):
        convert_urocell(tmp_path, out)
    assert not list(out.glob("*/fib1*"))


def test_rows_are_cut_off_along_y() -> None:
    volume = np.arange(4 * 5 * 6, dtype=np.int32).reshape(4, 5, 6)
    image = stored_array("v", "", volume, volume.dtype)
    cut = without_rows(image, 2)
    assert cut.shape == (4, 3, 6)
    np.testing.assert_array_equal(np.stack(list(cut.sections(1, 3))), volume[1:3, 2:, :])
    with pytest.raises(UserError, match="has 5 rows"):
        without_rows(image, 5)
