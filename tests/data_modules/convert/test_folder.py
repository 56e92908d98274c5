from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from data_modules.convert import convert_folder
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.convert_checks import (
    attributes,
    dark,
    object_mask,
    picture,
    pixel_size,
    provenance,
    real_data,
    save,
    stored,
)


def test_folder_of_mixed_formats_with_labels(tmp_path: Path) -> None:
    for number, suffix in enumerate([".png", ".tif", ".jpg"]):
        save(tmp_path / "images" / f"s{number}{suffix}", picture(number))
        save(tmp_path / "labels" / f"s{number}_mask.png", dark(object_mask(number)))
    keys = convert_folder(
        str(tmp_path / "images"), tmp_path / "o.zarr", 2.5, labels=str(tmp_path / "labels"), foreground="dark"
    )
    assert keys == ["train/s0", "train/s1", "train/s2"]
    for number, key in enumerate(keys):
        if number < 2:
            np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key), picture(number))
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, "membrane"), object_mask(number))
    assert pixel_size(tmp_path / "o.zarr", keys[0]) == [2.5, 2.5]
    image, label = (provenance(tmp_path / "o.zarr", keys[0], name) for name in (None, "membrane"))
    assert image["source"] == "s0.png"
    assert image["grey"] == {"rule": "unchanged", "source_dtype": "uint8"}
    assert label["source"] == "s0_mask.png"
    assert (label["foreground"], label["threshold"], label["source_dtype"]) == ("dark", 127.5, "uint8")
    assert not verify(MosaicStore(tmp_path / "o.zarr"))


def test_stack_of_16_bit_pages_with_hdf5_labels(tmp_path: Path) -> None:
    stack = np.stack([picture(seed).astype(np.uint16) * 16 for seed in range(3)])
    ids = np.stack([picture(seed).astype(np.uint64) * 2**33 for seed in range(3)])
    tifffile.imwrite(tmp_path / "volume.tif", stack, compression="zlib", photometric="minisblack")
    with h5py.File(tmp_path / "truth.h5", "w") as file:
        file["ids"] = ids
    out = tmp_path / "o.zarr"
    keys = convert_folder(
        str(tmp_path / "volume.tif"),
        out,
        4,
        "val",
        f"{tmp_path}/truth.h5:ids",
        "cells",
        kind="instances",
        grey="0,4080",
    )
    assert keys == ["val/volume-000", "val/volume-001", "val/volume-002"]
    for section, key in enumerate(keys):
        np.testing.assert_array_equal(stored(out, key), picture(section))
        np.testing.assert_array_equal(stored(out, key, "cells"), ids[section])
    assert provenance(out, keys[1])["grey"] == {
        "rule": "0,4080", "lo": 0.0, "hi": 4080.0, "source_dtype": "uint16", "clipped_fraction": 0.0
    }  # fmt: skip
    assert provenance(out, keys[1])["page"] == 1
    assert attributes(out, keys[1], "cells")["emseg"]["kind"] == "instances"


def test_classes_carry_their_names(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    values = (picture() % 3).astype(np.uint8)
    save(tmp_path / "truth.png", values)
    convert_folder(
        str(tmp_path / "a.png"), tmp_path / "o.zarr", 4, labels=str(tmp_path / "truth.png"), label_name="organelle",
        kind="classes", classes={0: "background", 1: "mitochondrion", 2: "vesicle"},
    )  # fmt: skip
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/a", "organelle"), values)
    sample = MosaicStore(tmp_path / "o.zarr").sample("train/a")
    info = sample.label("organelle").info
    assert info is not None
    assert info.classes[1] == "mitochondrion"


def test_images_without_labels_and_higher_than_a_band(tmp_path: Path) -> None:
    tall = picture(shape=(2100, 33))
    save(tmp_path / "tall.png", tall)
    assert convert_folder(str(tmp_path / "tall.png"), tmp_path / "o.zarr", 1.5, "predict") == ["predict/tall"]
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "predict/tall"), tall)


def test_existing_samples_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    save(tmp_path / "i" / "b.png", picture(0))
    convert_folder(str(tmp_path / "i"), tmp_path / "o.zarr", 4)
    save(tmp_path / "i" / "a.png", picture(1))
    save(tmp_path / "i" / "b.png", picture(2))
    with pytest.raises(UserError, match=r"already has train/b.*--overwrite"):
        convert_folder(str(tmp_path / "i"), tmp_path / "o.zarr", 4)
    assert not (tmp_path / "o.zarr" / "train" / "a").exists()
    convert_folder(str(tmp_path / "i"), tmp_path / "o.zarr", 4, overwrite=True)
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/b"), picture(2))


def test_sizes_that_differ_leave_no_half_sample(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    save(tmp_path / "m.png", dark(object_mask())[:-1])
    message = r"a\.png is \(40, 56\) px but its label .*m\.png is \(39, 56\) px"
    with pytest.raises(UserError, match=message):
        convert_folder(
            str(tmp_path / "a.png"), tmp_path / "o.zarr", 4, labels=str(tmp_path / "m.png"), foreground="dark"
        )
    assert [path.name for path in (tmp_path / "o.zarr" / "train").iterdir()] == ["zarr.json"]


def test_masks_of_one_value_and_clipping_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture().astype(np.uint16))
    save(tmp_path / "m.png", np.full((40, 56), 255, np.uint8))
    with (
        pytest.warns(UserWarning, match=r"m\.png is all background"),
        pytest.warns(UserWarning, match=r"a\.png: \d+\.\d% of the pixels were clipped"),
    ):
        convert_folder(
            str(tmp_path / "a.png"), tmp_path / "o.zarr", 4, labels=str(tmp_path / "m.png"), foreground="dark",
            grey="100,200",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"foreground": "dark"}, "--foreground says how to read labels"),
        ({"labels": "m.png"}, "--foreground dark or bright"),
        ({"pixel_size_nm": 0.0}, "--pixel-size-nm 0.0"),
        ({"grey": "bright"}, "--grey 'bright'"),
        ({"images": "none"}, "none does not exist"),
        ({"label_name": "a/b"}, "cannot name a label"),
        ({"split": "a/b"}, "cannot name a split"),
    ],
)
def test_arguments_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    save(tmp_path / "a.png", picture())
    save(tmp_path / "m.png", dark(object_mask()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        convert_folder(**{"images": "a.png", "out": Path("o.zarr"), "pixel_size_nm": 4.0, **arguments})


def test_real_vnc_masks_of_mixed_depth(tmp_path: Path) -> None:
    root = real_data("vnc_sstem") / "stack1"
    for folder in ("raw", "mitochondria"):
        (tmp_path / folder).mkdir()
        for name in ("00.png", "01.png"):
            (tmp_path / folder / name).symlink_to(root / folder / name)
    keys = convert_folder(
        str(tmp_path / "raw"), tmp_path / "o.zarr", 4.6, labels=str(tmp_path / "mitochondria"),
        label_name="mitochondria", foreground="bright",
    )  # fmt: skip
    for key in keys:
        name = f"{key.removeprefix('train/')}.png"
        truth = np.asarray(Image.open(root / "mitochondria" / name).convert("L")) > 127
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, "mitochondria"), truth)
        np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key), np.asarray(Image.open(root / "raw" / name)))


def test_real_merged_classes_are_not_a_mask(tmp_path: Path) -> None:
    root = real_data("vnc_sstem") / "stack1"
    with pytest.raises(UserError, match=r"00\.png is no binary mask"):
        convert_folder(str(root / "raw"), tmp_path / "o.zarr", 4.6, labels=str(root / "labels"), foreground="dark")


def test_real_urisc_truth_with_jpeg_noise(tmp_path: Path) -> None:
    root = real_data("urisc_eval")
    convert_folder(str(root / "pre.png"), tmp_path / "o.zarr", 2.18, labels=str(root / "gt.png"), foreground="dark")
    mask = stored(tmp_path / "o.zarr", "train/pre", "membrane")
    np.testing.assert_array_equal(mask, np.asarray(Image.open(root / "gt.png"))[..., 0] < 128)
    assert mask.mean() == pytest.approx(0.045, abs=1e-3)
