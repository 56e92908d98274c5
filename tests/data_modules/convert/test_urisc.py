from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_modules.convert import convert_urisc
from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from tests.support.convert_checks import attributes, dark, object_mask, picture, pixel_size, provenance, save, stored

SEEDS = {"train/1": 1, "train/2": 2, "val/3": 3, "test/4": 4}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The released folders of Track 1 with four small mosaics; only the test image lacks the truth."""
    for place, seed in SEEDS.items():
        save(tmp_path / "imgs" / "Track1" / f"{place}.png", picture(seed))
        if not place.startswith("test"):
            save(tmp_path / "label" / "Track1" / f"{place}.png", dark(object_mask(seed)))
    rounds = tmp_path / "Human_Annotation_Process"
    for number, folder in enumerate(("1st", "2nd")):
        save(rounds / folder / "1.png", dark(object_mask(10 + number)))
    save(rounds / "final" / "1.png", dark(object_mask(1)))
    return tmp_path


def test_track_1_with_official_splits_and_rounds(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.zarr"
    with pytest.warns(UserWarning, match="without a label: imgs/Track1/test/4.png"):
        assert convert_urisc(root, out) == list(SEEDS)
    for key, seed in SEEDS.items():
        np.testing.assert_array_equal(stored(out, key), picture(seed))
        if not key.startswith("test"):
            np.testing.assert_array_equal(stored(out, key, "membrane"), object_mask(seed))
    assert attributes(out, "train/1/labels")["ome"]["labels"] == ["membrane", "membrane_1st", "membrane_2nd"]
    np.testing.assert_array_equal(stored(out, "train/1", "membrane_2nd"), object_mask(11))
    assert pixel_size(out, "val/3") == [2.18, 2.18]
    label = provenance(out, "train/1", "membrane")
    assert label["source"] == "label/Track1/train/1.png"
    assert label["foreground"] == "dark"
    assert label["compared_with"] == {"source": "Human_Annotation_Process/final/1.png", "different_px": 0}
    assert not verify(MosaicStore(out))


@pytest.mark.filterwarnings("ignore:without a label")
def test_final_round_stands_in_for_missing_label(root: Path, tmp_path: Path) -> None:
    (root / "label" / "Track1" / "train" / "2.png").unlink()
    with pytest.raises(UserError, match=r"no label .* imgs/Track1/train/2\.png"):
        convert_urisc(root, tmp_path / "o.zarr")
    changed = object_mask(1)
    changed[0, :3] ^= True
    save(root / "Human_Annotation_Process" / "final" / "1.png", dark(changed))
    save(root / "Human_Annotation_Process" / "final" / "2.png", dark(object_mask(2)))
    with pytest.warns(UserWarning, match=r"differ in 3 px"):
        convert_urisc(root, tmp_path / "o.zarr")
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/1", "membrane"), object_mask(1))
    assert provenance(tmp_path / "o.zarr", "train/2", "membrane")["source"].endswith("final/2.png")


@pytest.mark.filterwarnings("ignore:without a label")
def test_flat_labels_and_names_repeated_in_every_split(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("val", 2)):
        save(tmp_path / "imgs" / "Track1" / split / "1.png", picture(seed))
        save(tmp_path / "label" / split / "1.png", dark(object_mask(seed)))
    save(tmp_path / "imgs" / "Track1" / "test" / "9.png", picture(9))
    save(tmp_path / "label" / "9.png", dark(object_mask(9)))
    out = tmp_path / "o.zarr"
    convert_urisc(tmp_path, out)
    for key, seed in (("train/1", 1), ("val/1", 2), ("test/9", 9)):
        np.testing.assert_array_equal(stored(out, key, "membrane"), object_mask(seed))
    save(tmp_path / "label" / "more" / "9.png", dark(object_mask(9)))
    with pytest.raises(UserError, match=r"any of these labels: label/9\.png, label/more/9\.png|test/9"):
        convert_urisc(tmp_path, tmp_path / "p.zarr")


@pytest.mark.filterwarnings("ignore:without a label")
def test_validation_images_are_removed_from_training(root: Path, tmp_path: Path) -> None:
    save(root / "imgs" / "Track1" / "train" / "3.png", picture(3))
    with pytest.warns(UserWarning, match="train/3.png is the same file as .*val/3.png"):
        keys = convert_urisc(root, tmp_path / "o.zarr")
    assert keys == list(SEEDS)


def _track2(root: Path, flat: bool) -> None:
    """Two originals of 40 × 56 px and their released versions of 10 × 10 px."""
    for split, name in (("train", "5"), ("test", "6")):
        below = "" if flat else split
        save(root / "imgs" / "Track2_original_size" / below / f"{name}.png", picture(int(name)))
        save(root / "imgs" / "Track2" / split / f"{name}.png", picture(int(name), (10, 10)))
        save(root / "label" / "Track2" / f"{name}.png", dark(object_mask(int(name), (10, 10))))
        save(root / "label" / "Track2_original_size" / f"{name}.png", dark(object_mask(int(name))))
        save(root / "label" / "Track1" / f"{name}.png", dark(object_mask(0)))


def test_track_2_has_its_originals_pixel_size(tmp_path: Path) -> None:
    _track2(tmp_path, flat=False)
    out = tmp_path / "o.zarr"
    assert convert_urisc(tmp_path, out, track=2) == ["train/5", "test/6"]
    np.testing.assert_array_equal(stored(out, "train/5"), picture(5, (10, 10)))
    np.testing.assert_array_equal(stored(out, "train/5", "membrane"), object_mask(5, (10, 10)))
    assert pixel_size(out, "train/5") == pytest.approx([2.18 * 4, 2.18 * 5.6])
    (tmp_path / "imgs" / "Track2_original_size").rename(tmp_path / "elsewhere")
    convert_urisc(tmp_path, out, track=2, overwrite=True)
    assert pixel_size(out, "train/5") == pytest.approx([2.18 * 995.8, 2.18 * 995.9])


@pytest.mark.parametrize("flat", [False, True])
def test_track_2_from_the_originals(tmp_path: Path, flat: bool) -> None:
    _track2(tmp_path, flat)
    out = tmp_path / "o.zarr"
    assert convert_urisc(tmp_path, out, track=2, from_original=True, size=8, label_share=0.3) == ["train/5", "test/6"]
    means = picture(5).reshape(8, 5, 8, 7).astype(float).mean((1, 3))
    assert np.abs(stored(out, "train/5") - means).max() <= 1
    shares = object_mask(5).reshape(8, 5, 8, 7).mean((1, 3))
    np.testing.assert_array_equal(stored(out, "train/5", "membrane"), shares >= 0.3)
    assert pixel_size(out, "train/5") == pytest.approx([2.18 * 5, 2.18 * 7])
    assert provenance(out, "train/5")["downsampled"] == {"from": [40, 56], "to": [8, 8], "filter": "box"}
    assert provenance(out, "train/5", "membrane")["downsampled"]["foreground_if_area_share"] == 0.3


def test_track_2_without_split_folders_goes_to_all(tmp_path: Path) -> None:
    save(tmp_path / "imgs" / "Track2" / "7.png", picture(7))
    with pytest.warns(UserWarning, match="without a label"):
        assert convert_urisc(tmp_path, tmp_path / "o.zarr", track=2) == ["all/7"]


def test_ambiguous_names_are_not_guessed(tmp_path: Path) -> None:
    for track in ("Track1", "Track2"):
        save(tmp_path / "imgs" / track / "train" / "1.png", picture())
    save(tmp_path / "label" / "train" / "1.png", dark(object_mask()))
    for convert in (partial(convert_urisc, track=1), partial(convert_urisc, track=2)):
        with pytest.raises(UserError, match=r"label/train/1\.png could belong to .*subfolders Track1 and Track2"):
            convert(tmp_path, tmp_path / "o.zarr")
    save(tmp_path / "imgs" / "Track2" / "val" / "1.png", picture())
    save(tmp_path / "imgs" / "Track2_original_size" / "1.png", picture())
    with pytest.raises(UserError, match="1 in train and in val"):
        convert_urisc(tmp_path, tmp_path / "o.zarr", track=2, from_original=True, size=8)


def test_missing_folders_and_contradictions_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"imgs/Track1 does not exist.*--root"):
        convert_urisc(tmp_path, tmp_path / "o.zarr")
    with pytest.raises(UserError, match="--track 2"):
        convert_urisc(tmp_path, tmp_path / "o.zarr", from_original=True)
    (tmp_path / "imgs" / "Track1" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no images"):
        convert_urisc(tmp_path, tmp_path / "o.zarr")
