from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.convert.benchmarks.casser import convert_kasthuri, convert_lucchi
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.benchmark_trees import casser
from tests.support.convert_checks import pixel_size, provenance, save, stored

pytestmark = pytest.mark.filterwarnings("ignore:.*were published:UserWarning")


@pytest.mark.parametrize("inner", ["", "Lucchi++"])
def test_lucchi_is_two_isotropic_volumes(tmp_path: Path, inner: str) -> None:
    saved = casser(tmp_path / "root" / inner, train=12)
    assert convert_lucchi(tmp_path / "root", tmp_path / "o.zarr") == ["train/lucchi", "test/lucchi"]
    for split, (image, mask) in saved.items():
        key = f"{split}/lucchi"
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key), image)
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, "mitochondrion"), mask == 255)
        assert pixel_size(tmp_path / "o.zarr", key) == [5.0, 5.0, 5.0]
    record = provenance(tmp_path / "o.zarr", "train/lucchi")
    assert (record["source"], record["first"], record["last"]) == ("Train_In", "mask0000.png", "mask0011.png")
    assert provenance(tmp_path / "o.zarr", "train/lucchi", "mitochondrion")["last"] == "11.png"
    assert not verify(MosaicStore(tmp_path / "o.zarr"))


def test_padding_of_kasthuri_is_ignored(tmp_path: Path) -> None:
    saved = casser(tmp_path / "Kasthuri++", outside=True)
    assert convert_kasthuri(tmp_path, tmp_path / "o.zarr") == ["train/kasthuri", "test/kasthuri"]
    for split, (_, mask) in saved.items():
        expected = np.where(mask == 2, 255, mask == 255)
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", f"{split}/kasthuri", "mitochondrion"), expected)
        assert pixel_size(tmp_path / "o.zarr", f"{split}/kasthuri") == [30.0, 3.0, 3.0]


def test_only_255_is_mitochondrion(tmp_path: Path) -> None:
    casser(tmp_path)
    mask = np.full((12, 16), 255, np.uint8)
    mask[0, :4] = 1, 2, 128, 254
    save(tmp_path / "Train_Out" / "1.png", mask)
    convert_lucchi(tmp_path, tmp_path / "o.zarr")
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/lucchi", "mitochondrion")[1], mask == 255)


def test_masks_on_a_transparent_layer(tmp_path: Path) -> None:
    saved = casser(tmp_path)
    for number, mask in enumerate(saved["train"][1]):
        layers = np.zeros((12, 16, 4), np.uint8)
        layers[mask == 255] = 255
        layers[mask == 0] = 255, 255, 255, 0
        Image.fromarray(layers).save(tmp_path / "Train_Out" / f"{number}.png")
    convert_lucchi(tmp_path, tmp_path / "o.zarr")
    np.testing.assert_array_equal(
        stored(tmp_path / "o.zarr", "train/lucchi", "mitochondrion"), saved["train"][1] == 255
    )


def test_another_number_of_sections_is_reported(tmp_path: Path) -> None:
    casser(tmp_path)
    with (
        pytest.warns(UserWarning, match=r"Train_In has 3 images, 85 were published"),
        pytest.warns(UserWarning, match=r"Test_In has 2 images, 75 were published"),
    ):
        convert_kasthuri(tmp_path, tmp_path / "o.zarr")


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (["Train_Out/1.png"], r"images without a label: .*Train_In.mask0001\.png"),
        (["Test_In/mask0000.png"], r"labels without an image: .*Test_Out.0\.png"),
        (["Train_In/mask0001.png", "Train_Out/1.png"], "Train_In lacks the sections 1"),
        (["Test_Out/0.png", "Test_Out/1.png"], "Test_Out holds no"),
    ],
)
def test_missing_sections_are_named(tmp_path: Path, removed: list[str], message: str) -> None:
    casser(tmp_path)
    for name in removed:
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=message):
        convert_lucchi(tmp_path, tmp_path / "o.zarr")
    assert not (tmp_path / "o.zarr").exists()


def test_missing_folders_are_named_with_the_layout(tmp_path: Path) -> None:
    casser(tmp_path)
    (tmp_path / "Test_Out").rename(tmp_path / "truth")
    with pytest.raises(
        UserError, match=r"has no Test_Out: --root should hold the folders Train_In, Train_Out, Test_In"
    ):
        convert_kasthuri(tmp_path, tmp_path / "o.zarr")


def test_unfit_files_leave_no_half_sample(tmp_path: Path) -> None:
    casser(tmp_path)
    broken = tmp_path / "Train_Out" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=r"2\.png cannot be read, it may be truncated"):
        convert_lucchi(tmp_path, tmp_path / "o.zarr")
    save(tmp_path / "Train_In" / "again0001.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(UserError, match="have the same number"):
        convert_lucchi(tmp_path, tmp_path / "o.zarr")
    (tmp_path / "Train_In" / "again0001.png").rename(tmp_path / "Train_In" / "again.png")
    with pytest.raises(UserError, match=r"again\.png has no number"):
        convert_lucchi(tmp_path, tmp_path / "o.zarr")
    assert not list((tmp_path / "o.zarr").glob("*/lucchi"))
