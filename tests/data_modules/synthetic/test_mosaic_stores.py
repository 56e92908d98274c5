"""Stores of synthetic mosaics: what is asked for is there, sound and repeatable."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from data_modules.errors import UserError
from data_modules.store import MosaicStore, verify
from data_modules.synthetic.mosaic import parse_size, synthesize
from data_modules.synthetic_mosaics import SyntheticMosaics


@pytest.mark.parametrize(("text", "size"), [("9958x9959", (9958, 9959)), ("1x2", (1, 2)), ("64X32", (64, 32))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "64", "64x", "64x0", "-1x5", "64x32x3", "6.4x5", "64 by 32", "²x3", "axb"])
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match=f"{text!r} is no size"):
        parse_size(text)


def test_wrong_sizes_are_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'64' is no size"):
        synthesize(tmp_path / "s", train=["64x64"], val=["64"], test=[])
    assert not (tmp_path / "s").exists()


def make(path: Path, seed: int = 0, overwrite: bool = False) -> list[str]:
    return synthesize(path, ["70x90", "64x64"], ["64x80"], [], pixel_size_nm=4.0, seed=seed, overwrite=overwrite)


def image(store: Path, key: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(zarr.open_array(store / key / "0", mode="r")[...], np.uint8)


KEYS = ["train/synthetic-0", "train/synthetic-1", "val/synthetic-0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of seed 0, to be read only."""
    path = tmp_path_factory.mktemp("synthetic") / "s"
    assert make(path) == KEYS
    return path


def test_a_store_holds_what_was_asked_for(made: Path) -> None:
    store = MosaicStore(made)
    samples = {sample.key: sample for sample in store.samples()}
    assert {key: sample.image.shape for key, sample in samples.items()} == dict(
        zip(KEYS, [(70, 90), (64, 64), (64, 80)], strict=True)
    )
    for sample in samples.values():
        assert sample.pixel_size_nm == (4.0, 4.0)
        info = sample.label("membrane").info
        assert info is not None
        assert info.kind == "binary"
        assert set(info.counts) <= {0, 1}
    assert verify(store) == []


def test_seeds_repeat_and_no_two_mosaics_are_alike(made: Path, tmp_path: Path) -> None:
    make(tmp_path / "b")
    make(tmp_path / "c", seed=1)
    for key in KEYS:
        np.testing.assert_array_equal(image(made, key), image(tmp_path / "b", key))
        assert not np.array_equal(image(made, key), image(tmp_path / "c", key))
    corners = {image(made, key)[:40, :40].tobytes() for key in KEYS}
    assert len(corners) == len(KEYS)


def test_an_existing_sample_is_kept_unless_asked(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "s")
    before = image(tmp_path / "s", "train/synthetic-0")
    with pytest.raises(UserError, match=r"train/synthetic-0 exists"):
        make(tmp_path / "s", seed=1)
    np.testing.assert_array_equal(image(tmp_path / "s", "train/synthetic-0"), before)
    make(tmp_path / "s", seed=1, overwrite=True)
    assert not np.array_equal(image(tmp_path / "s", "train/synthetic-0"), before)


def test_the_data_module_makes_its_store_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.zarr"
    # What a killed run left under the working name must not become part of the store.
    synthesize(path.with_name(".s.zarr.partial"), ["64x64"] * 3, [], [])
    data = SyntheticMosaics(str(path), ["64x70"], ["64x64"], ["64x64"], synthetic_seed=3, patch_size=32, batch_size=2)
    data.prepare_data()
    assert [sample.key for sample in MosaicStore(path).samples()] == [
        "test/synthetic-0", "train/synthetic-0", "val/synthetic-0"
    ]  # fmt: skip
    assert [folder.name for folder in path.parent.iterdir()] == ["s.zarr"]
    stamp = (path / "train/synthetic-0/0/c/0/0").stat().st_mtime_ns
    data.prepare_data()
    assert (path / "train/synthetic-0/0/c/0/0").stat().st_mtime_ns == stamp
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 1, 32, 32)
