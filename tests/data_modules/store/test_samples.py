"""OME-Zarr 0.5: what other software sees in our stores, and what we see in stores of other software."""

from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import zarr

from data_modules.errors import UserError
from data_modules.store import LabelInfo, MosaicStore, MosaicView, read, verify
from tests.support.store_checks import edit_json, foreign_sample, noise, read_all, stock, write_sample

BINARY = LabelInfo("binary")


def nodes(path: Path) -> list[Any]:
    """What ome-zarr-py, on which napari's reader is built, finds."""
    location = ome_zarr.io.parse_url(path, mode="r")
    assert location is not None
    return list(ome_zarr.reader.Reader(location)())


def test_ome_zarr_sees_levels_scale_and_labels(tmp_path: Path) -> None:
    image, mask = noise((2100, 70)), noise((2100, 70), top=2)
    folder = write_sample(tmp_path / "s", image, {"membrane": (BINARY, mask)}, pixel_size_nm=(2.5, 4.0))
    node, *others = nodes(folder)
    assert [level.shape for level in node.data] == [(2100, 70), (1050, 35), (525, 18)]
    np.testing.assert_array_equal(np.asarray(node.data[0]), image)
    assert [(axis["name"], axis["unit"]) for axis in node.metadata["axes"]] == [("y", "nanometer"), ("x", "nanometer")]
    scales = [level[0]["scale"] for level in node.metadata["coordinateTransformations"]]
    assert scales == [[2.5, 4.0], [5.0, 8.0], [10.0, 16.0]]
    (label,) = [other for other in others if other.zarr.basename() == "membrane"]
    np.testing.assert_array_equal(np.asarray(label.data[0]), mask)
    assert [level.shape for level in label.data] == [level.shape for level in node.data]


def test_ome_zarr_sees_a_volume(tmp_path: Path) -> None:
    image = noise((5, 40, 30))
    node = nodes(write_sample(tmp_path / "s", image, pixel_size_nm=(40.0, 4.0, 4.0)))[0]
    np.testing.assert_array_equal(np.asarray(node.data[0]), image)
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]


def test_class_names_and_colours_are_in_the_metadata(tmp_path: Path) -> None:
    shape = (9, 9)
    organelles = (LabelInfo("classes", {0: "background", 7: "nucleus"}), noise(shape, top=2) * np.uint8(7))
    folder = write_sample(tmp_path / "s", noise(shape), {"organelles": organelles})
    entry: Any = zarr.open_group(folder / "labels" / "organelles", mode="r").attrs["ome"]
    assert {"label-value": 7, "class": "nucleus"} in entry["image-label"]["properties"]


def test_missing_foreign_chunks_are_the_fill_value(tmp_path: Path) -> None:
    image = noise((150, 100))
    image[64:128, :64] = 0
    folder = foreign_sample(tmp_path / "s", image)
    assert not (folder / "0" / "c" / "1" / "0").exists(), "zarr leaves empty chunks out"
    sample = MosaicStore(tmp_path / "s").sample("train/f")
    assert not sample.image.complete
    np.testing.assert_array_equal(read_all(sample.image), image)
    assert sample.pixel_size_nm == (2.0, 3.0)
    assert dict(sample.labels) == dict(sample.provenance) == {}
    assert verify(MosaicStore(tmp_path / "s")) == []


@pytest.mark.parametrize("path", ["s0", "scale0", "full/image"])
def test_foreign_levels_may_have_any_name(tmp_path: Path, path: str) -> None:
    image = noise((70, 80))
    foreign_sample(tmp_path / "s", image, path)
    store = MosaicStore(tmp_path / "s")
    np.testing.assert_array_equal(read_all(store.sample("train/f").image), image)
    assert verify(store) == []


@pytest.mark.parametrize(
    ("unit", "factor"), [("nanometer", 1), ("micrometer", 1000), ("angstrom", 0.1), ("millimeter", 1e6), (None, 1)]
)
def test_pixel_sizes_are_brought_to_nanometers(tmp_path: Path, unit: str | None, factor: float) -> None:
    foreign_sample(tmp_path / "s", noise((6, 7)), unit=unit)
    assert MosaicStore(tmp_path / "s").sample("train/f").pixel_size_nm == pytest.approx((2 * factor, 3 * factor))


def test_an_unknown_unit_is_not_taken_for_nanometers(tmp_path: Path) -> None:
    foreign_sample(tmp_path / "s", noise((6, 7)), unit="parsec")
    with pytest.raises(UserError, match=r"train/f.*'parsec'"):
        MosaicStore(tmp_path / "s").sample("train/f")


def test_other_axes_are_refused_by_name(tmp_path: Path) -> None:
    folder = foreign_sample(tmp_path / "s", noise((3, 6, 7)))
    ome: Any = zarr.open_group(folder).attrs["ome"]
    ome["multiscales"][0]["axes"][0]["name"] = "c"
    zarr.open_group(folder).attrs["ome"] = ome
    with pytest.raises(UserError, match=r"train/f.*\['c', 'y', 'x'\]"):
        MosaicStore(tmp_path / "s").sample("train/f")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_images_that_are_not_8_bit_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    foreign_sample(tmp_path / "s", noise((6, 7)).astype(dtype))
    with pytest.raises(UserError, match=rf"train/f.*{np.dtype(dtype).name}.*8"):
        MosaicStore(tmp_path / "s").sample("train/f")


def test_a_group_that_is_no_image_is_refused(tmp_path: Path) -> None:
    folder = foreign_sample(tmp_path / "s", noise((6, 7)))
    edit_json(folder / "zarr.json", attributes={})
    with pytest.raises(UserError, match=r"image of train/f.*no OME-Zarr 0\.5"):
        MosaicStore(tmp_path / "s").sample("train/f")


def test_labels_of_undeclared_kind_are_refused(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "s", noise((6, 7)), {"m": (BINARY, noise((6, 7), top=2))})
    group = zarr.open_group(folder / "labels" / "m")
    del group.attrs["emseg"]
    with pytest.raises(UserError, match=r"label 'm' of train/a does not declare its kind"):
        MosaicStore(tmp_path / "s").samples("train")
    # The remedy that the message names works.
    group.attrs["emseg"] = {"kind": "binary"}
    assert MosaicStore(tmp_path / "s").sample("train/a").label("m").info == BINARY


def test_binary_labels_beyond_8_bit_are_refused(tmp_path: Path) -> None:
    shape = (6, 7)
    folder = write_sample(tmp_path / "s", noise(shape), {"m": (LabelInfo("instances"), noise(shape, dtype=np.uint32))})
    zarr.open_group(folder / "labels" / "m").attrs["emseg"] = {"kind": "binary"}
    with pytest.raises(UserError, match=r"label 'm' of train/a.*uint32"):
        MosaicStore(tmp_path / "s").sample("train/a")


def test_image_and_label_of_different_size_are_refused(tmp_path: Path) -> None:
    small = write_sample(tmp_path / "s", noise((6, 7)), {"m": (BINARY, noise((6, 7)))}, key="train/small")
    large = write_sample(tmp_path / "s", noise((6, 8)), {"m": (BINARY, noise((6, 8)))}, key="train/large")
    (small / "labels").rename(tmp_path / "spare")
    (large / "labels").rename(small / "labels")
    with pytest.raises(UserError, match=r"train/small: image is \(6, 7\) px but label 'm' is \(6, 8\) px"):
        MosaicStore(tmp_path / "s").sample("train/small")


def test_missing_things_are_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no store at .*nowhere: check the path"):
        MosaicStore(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"not a zarr v3 store"):
        MosaicStore(tmp_path)
    mask = (BINARY, noise((6, 7), top=2))
    write_sample(tmp_path / "s", noise((6, 7)), {"membrane": mask, "membrane_1st": mask}, key="train/a")
    write_sample(tmp_path / "s", noise((6, 7)), key="val/b")
    store = MosaicStore(tmp_path / "s")
    assert store.splits == ["train", "val"]
    assert [sample.key for sample in store.samples()] == ["train/a", "val/b"]
    with pytest.raises(UserError, match=r"no split 'test'; it has: train, val"):
        store.samples("test")
    for key in ("train/c", "train", "train/a/0", "nothing/a"):
        with pytest.raises(UserError, match=rf"no sample '{key}'; it has: train/a, val/b"):
            store.sample(key)
    with pytest.raises(UserError, match=r"train/a has no label 'mito'; it has: membrane, membrane_1st"):
        MosaicView.of(store.sample("train/a"), "mito")
    with pytest.raises(UserError, match=r"val/b has no label 'membrane'; it has: none"):
        MosaicView.of(store.sample("val/b"), "membrane")
    zarr.open_group(tmp_path / "s" / "empty", mode="a", zarr_format=3)
    with pytest.raises(UserError, match=r"split 'empty' of .* is empty"):
        store.samples("empty")


def test_a_sample_written_anew_is_read_anew(tmp_path: Path) -> None:
    first, second = noise((30, 40), 1), noise((70, 20), 2)
    folder = write_sample(tmp_path / "s", first)
    np.testing.assert_array_equal(read_all(MosaicStore(tmp_path / "s").sample("train/a").image), first)
    write_sample(tmp_path / "s", second, overwrite=True)
    sample = MosaicStore(tmp_path / "s").sample("train/a")
    np.testing.assert_array_equal(read(sample.image, [slice(60, 70), slice(0, 20)]), second[60:])
    np.testing.assert_array_equal(stock(folder / "0"), second)
