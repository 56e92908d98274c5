import itertools
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
        sections_of = np.stack([picture(start + section, SIDE) for section in range(sections)])
        tifffile.imwrite(root / name, sections_of, photometric="minisblack")
    tifffile.imwrite(root / "train-labels.tif", np.stack([dark(object_mask(s, SIDE)) for s in range(sections)]))


def test_both_layouts_give_the_same_samples(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _folders(tmp_path / "a", 5)
    _stacks(tmp_path / "b", 5)
    keys = ["train/00", "train/01", "val/02", "test/03", "test/04"]
    keys += [f"challenge/{section:02}" for section in range(5)]
    for name in ("a", "b"):
        out = tmp_path / f"{name}.zarr"
        assert convert_isbi2012(tmp_path / name, out, "0,1", "2", "3,4") == keys
        np.testing.assert_array_equal(stored(out, "val/02"), picture(2, SIDE))
        np.testing.assert_array_equal(stored(out, "test/03", "membrane"), object_mask(3, SIDE))
        np.testing.assert_array_equal(stored(out, "challenge/01"), picture(101, SIDE))
        assert pixel_size(out, "val/02") == [4.0, 4.0]
        assert not MosaicStore(out).sample("challenge/01").labels
    assert provenance(tmp_path / "a.zarr", "val/02")["source"] == "train/images/02.png"
    assert provenance(tmp_path / "b.zarr", "val/02")["page"] == 2
    assert str(tmp_path) not in json.dumps(provenance(tmp_path / "b.zarr", "val/02"))


def test_default_splits_need_the_published_sections(tmp_path: Path) -> None:
    _stacks(tmp_path, 5)
    with pytest.raises(UserError, match=r"5 sections, not 20 or 30.*--val"):
        convert_isbi2012(tmp_path, tmp_path / "o.zarr")


def test_further_labels_are_instances(tmp_path: Path) -> None:
    _folders(tmp_path, 3)
    convert_isbi2012(tmp_path, tmp_path / "o.zarr", "0", "1", "2", labels="synapses")
    synapses = stored(tmp_path / "o.zarr", "val/01", "synapses")
    assert synapses.dtype == np.uint32
    np.testing.assert_array_equal(synapses, picture(51, SIDE))
    with pytest.raises(UserError, match=r"trakem2_vesicles\.tif; --labels can be: synapses"):
        convert_isbi2012(tmp_path, tmp_path / "p.zarr", "0", "1", "2", labels="vesicles")


def test_default_splits_follow_the_protocol() -> None:
    for count, sizes in ((20, [12, 3, 5]), (30, [17, 3, 10])):
        chosen = choose_sections(count, {"train": None, "val": None, "test": None})
        assert [len(sections) for sections in chosen.values()] == sizes
        assert list(itertools.chain.from_iterable(chosen.values())) == list(range(count))
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
    with pytest.warns(UserWarning, match="not converted"):
        keys = convert_isbi2012(root, tmp_path / "o.zarr", "0", "12", "19", labels="mitochondria,synapses")
    assert len(keys) == 33
    for key in keys[:3]:
        name = f"{key.split('/')[1]}.png"
        mask = stored(tmp_path / "o.zarr", key, "membrane")
        np.testing.assert_array_equal(mask, np.asarray(Image.open(root / "train" / "membranes" / name)) == 0)
        np.testing.assert_array_equal(
            stored(tmp_path / "o.zarr", key), np.asarray(Image.open(root / "train" / "images" / name))
        )
    with tifffile.TiffFile(root / "train" / "trakem2_mitochondria.tif") as tif:
        for key in keys[:3]:
            page = tif.pages[int(key.split("/")[1])].asarray()
            np.testing.assert_array_equal(stored(tmp_path / "o.zarr", key, "mitochondria"), page)
