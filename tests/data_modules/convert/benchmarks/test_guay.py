from pathlib import Path

import numpy as np
import pytest
import tifffile

from data_modules.convert.benchmarks import convert_guay
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.benchmark_trees import guay
from tests.support.convert_checks import attributes, pixel_size, provenance, stored


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


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
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
