from pathlib import Path

import numpy as np
import pytest

from data_modules.convert.benchmarks import convert_urocell
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.benchmark_trees import UROCELL, nifti, urocell
from tests.support.convert_checks import pixel_size, provenance, stored


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
