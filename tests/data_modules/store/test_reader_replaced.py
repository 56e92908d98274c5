"""A store that changes or goes away during a run is named, and never read as if nothing had happened."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import LabelInfo, MosaicStore, MosaicView, read
from data_modules.store.sharded import Sharded, local_stamp
from tests.support.store_checks import foreign_sample, noise, read_all, write_sample

OLD, NEW = noise((40, 50), 1), noise((40, 50), 2)
REGION = (slice(0, 40), slice(0, 50))
BINARY = LabelInfo("binary")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_sample(tmp_path / "s", OLD, {"m": (BINARY, OLD % 2)})
    return tmp_path / "s"


def test_a_replaced_sample_of_equal_shape_is_noticed(store: Path) -> None:
    before = MosaicView.of(MosaicStore(store).sample("train/a"), "m")
    np.testing.assert_array_equal(before.read_image((0, 0), OLD.shape), OLD)
    write_sample(store, NEW, {"m": (BINARY, NEW % 2)}, overwrite=True)
    for reading in (before.read_image, before.read_mask):
        with pytest.raises(
            UserError, match=r"of train/a: .* was replaced while this run was reading it: start the run"
        ):
            reading((0, 0), OLD.shape)
    np.testing.assert_array_equal(read_all(MosaicStore(store).sample("train/a").image), NEW)


def test_a_replaced_unread_sample_is_noticed(store: Path) -> None:
    image = MosaicStore(store).sample("train/a").image
    write_sample(store, NEW, overwrite=True)
    with pytest.raises(UserError, match="was replaced"):
        read(image, REGION)


def test_another_shape_is_not_mistaken_for_damage(store: Path) -> None:
    image = MosaicStore(store).sample("train/a").image
    read(image, REGION)
    write_sample(store, noise((20, 20)), overwrite=True)
    with pytest.raises(UserError, match="was replaced"):
        read(image, REGION)


def test_a_replaced_foreign_sample_is_noticed(tmp_path: Path) -> None:
    foreign_sample(tmp_path / "f", OLD)
    image = MosaicStore(tmp_path / "f").sample("train/f").image
    np.testing.assert_array_equal(read_all(image), OLD)
    shutil.rmtree(tmp_path / "f")
    foreign_sample(tmp_path / "f", NEW)
    with pytest.raises(UserError, match="was replaced"):
        read(image, REGION)


@pytest.mark.parametrize("gone", [".", "train", "train/a", "train/a/0/zarr.json"])
def test_a_store_that_goes_away_is_named(store: Path, gone: str) -> None:
    image = MosaicStore(store).sample("train/a").image
    read(image, REGION)
    (store / gone).rename(store.with_name("elsewhere"))
    with pytest.raises(UserError, match=r"image of train/a: .* has gone since this run opened it"):
        read(image, REGION)
    store.with_name("elsewhere").rename(store / gone)
    np.testing.assert_array_equal(read(image, REGION), OLD)


def test_a_change_between_two_reads_is_noticed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check follows the reading, so that pixels of the new sample are not handed out as those of the old one."""
    image = MosaicStore(store).sample("train/a").image
    plain = Sharded.read

    def replaced_first(self: Sharded, folder: str, region: tuple[slice, ...]) -> object:
        write_sample(store, NEW, overwrite=True)
        return plain(self, folder, region)

    monkeypatch.setattr(Sharded, "read", replaced_first)
    with pytest.raises(UserError, match="was replaced"):
        read(image, REGION)


def test_a_stamp_costs_one_system_call(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read asks for a stamp, so that opening a file for it would be too much."""
    folder = MosaicStore(store).sample("train/a").image.path
    asked: list[str] = []
    stat = os.stat

    def count(path: str) -> os.stat_result:
        asked.append(path)
        return stat(path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opens a file")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", count)
        patch.setattr("builtins.open", refuse)
        stamp = local_stamp(folder)
    assert asked == [f"{folder}/zarr.json"]
    assert stamp == local_stamp(folder)
