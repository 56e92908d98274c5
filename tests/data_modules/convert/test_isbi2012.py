import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from data_modules.convert import convert_isbi2012
from data_modules.convert.isbi2012 import choose_sections
from data_modules.errors import UserError
from data_modules.store import MosaicStore
from tests.support.convert_checks import dark, object_mask, picture, pixel_size, provenance, real_data, save, stored

SIDE = (16, 16)


def _folders(root: Path, sections: int) -> None:
    for section in range(sections):
        save(root / "train" / "images" / f"{section:02}.png", picture(section, SIDE))
        save(root / "train" / "membranes" / f"{section:02}.png", dark(object_mask(section, SIDE)))
        save(root / "test" / "images" / f"{section:02}.png", picture(100 + section, SIDE))
    tifffile.imwrite(
        root / "train" / "trakem2_synapses.tif",
        np.stack([picture(50 + section, SIDE) for section in range(sections)]),
        photometric="minisblack",
    )


def _stacks(root: Path, sections: int) -> None:
    for name, start in (("train-volume.tif", 0), ("test-volume.tif", 100)):
        tifffile.imwrite(root / name, np.stack([picture(start + section, SIDE) for section in range(sections)]))
    tifffile.imwrite(root / "train-labels.tif", np.stack([dark(object_mask(s, SIDE)) for s in range(sections)]))


def test_both_layouts_give_the_same_samples(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _folders(tmp_path / "a", 20)
    _stacks(tmp_path / "b", 20)
    keys = convert_isbi2012(tmp_path / "a", tmp_path / "a.zarr")
    assert convert_isbi2012(tmp_path / "b", tmp_path / "b.zarr") == keys
    sizes = {split: sum(key.startswith(f"{split}/") for key in keys) for split in ("train", "val", "test", "challenge")}
    assert sizes == {"train": 12, "val": 3, "test": 5, "challenge": 20}
    assert keys[0] == "train/00"
    for out in (tmp_path / "a.zarr", tmp_path / "b.zarr"):
        np.testing.assert_array_equal(stored(out, "val/12"), picture(12, SIDE))
        np.testing.assert_array_equal(stored(out, "test/19", "membrane"), object_mask(19, SIDE))
        np.testing.assert_array_equal(stored(out, "challenge/07"), picture(107, SIDE))
        assert pixel_size(out, "val/12") == [4.0, 4.0]
        assert not MosaicStore(out).sample("challenge/07").labels
    assert provenance(tmp_path / "a.zarr", "val/12")["source"] == "train/images/12.png"
    assert provenance(tmp_path / "b.zarr", "val/12")["page"] == 12
    assert str(tmp_path) not in json.dumps(provenance(tmp_path / "b.zarr", "val/12"))


def test_further_labels_are_instances(tmp_path: Path) -> None:
    _folders(tmp_path, 3)
    convert_isbi2012(tmp_path, tmp_path / "o.zarr", "0", "1", "2", labels="synapses")
    synapses = stored(tmp_path / "o.zarr", "val/01", "synapses")
    assert synapses.dtype == np.uint32
    np.testing.assert_array_equal(synapses, picture(51, SIDE))
    with pytest.raises(UserError, match=r"trakem2_vesicles\.tif; --labels can be: synapses"):
        convert_isbi2012(tmp_path, tmp_path / "p.zarr", "0", "1", "2", labels="vesicles")


def test_default_splits_follow_the_protocol() -> None:
    full = choose_sections(30, {"train": None, "val": None, "test": None})
    assert [len(sections) for sections in full.values()] == [17, 3, 10]
    assert full["test"] == list(range(20, 30))
    given = choose_sections(20, {"train": None, "val": "0,1", "test": None})
    assert given["val"] == [0, 1]
    assert given["train"] == list(range(2, 15))
    assert choose_sections(3, {"train": "0-2", "val": "", "test": ""}) == {"train": [0, 1, 2], "val": [], "test": []}


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [
        (20, {"train": "0-14", "val": "13,14", "test": None}, r"sections \[13, 14\] are in two"),
        (20, {"train": "0-20", "val": "", "test": ""}, "--train '0-20': give sections from 0 to 19"),
        (20, {"train": "5-3", "val": "", "test": ""}, "--train '5-3'"),
        (20, {"train": "all", "val": "", "test": ""}, "--train 'all'"),
        (12, {"train": "0-3", "val": None, "test": None}, "12 sections, not 20 or 30.*--val"),
    ],
)
def test_ranges_that_cannot_be(count: int, given: dict[str, str | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_sections(count, given)


def test_sections_left_out_are_reported() -> None:
    with pytest.warns(UserWarning, match="not converted: 4"):
        choose_sections(5, {"train": "0-3", "val": "", "test": ""})


def test_missing_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither train/images nor train-volume"):
        convert_isbi2012(tmp_path, tmp_path / "o.zarr")


def test_real_isbi_sections(tmp_path: Path) -> None:
    root = real_data("isbi2012")
    keys = convert_isbi2012(root, tmp_path / "o.zarr", labels="mitochondria,synapses")
    assert len(keys) == 50
    for key in keys[:20]:
        name = f"{key.split('/')[1]}.png"
        mask = stored(tmp_path / "o.zarr", key, "membrane")
        np.testing.assert_array_equal(mask, np.asarray(Image.open(root / "train" / "membranes" / name)) == 0)
        np.testing.assert_array_equal(
            stored(tmp_path / "o.zarr", key), np.asarray(Image.open(root / "train" / "images" / name))
        )
    with tifffile.TiffFile(root / "train" / "trakem2_mitochondria.tif") as tif:
        for key, page in zip(keys[:20], tif.pages, strict=True):
            np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, "mitochondria"), page.asarray())
