"""Shards stay open and their indexes remembered: within bounds, unmixed, and never against what is on disk."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import ArrayRef, read, shard_files
from data_modules.store.settings import CACHE_VARIABLE
from tests.support.reader_checks import write
from tests.support.store_checks import Pixels, flip_byte, noise


def age(folder: Path) -> None:
    """Make files look as if they had been written long ago, so that their indexes are remembered."""
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ArrayRef, Pixels, shard_files.ShardFiles]:
    """An array of 36 shards, and the files that were opened of it."""
    pixels = noise((24, 24))
    array = write(tmp_path / "a", pixels, (2, 2), (4, 4), codec=None)
    age(tmp_path / "a")
    files = shard_files.ShardFiles()
    monkeypatch.setattr(shard_files, "files", files)
    return array, pixels, files


WHOLE = (slice(0, 24), slice(0, 24))


def test_open_files_are_bounded(many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    array, pixels, files = many
    monkeypatch.setattr(shard_files, "MOST_OPEN", 5)
    before = len(list(Path("/proc/self/fd").iterdir()))
    np.testing.assert_array_equal(read(array, WHOLE), pixels)
    assert len(files) == 5
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5


@pytest.mark.parametrize(("megabytes", "kept"), [("0", 0), ("0.00065", 10), ("1", 36)])
def test_memory_is_bounded_by_the_environment(
    many: Any, monkeypatch: pytest.MonkeyPatch, megabytes: str, kept: int
) -> None:
    array, pixels, files = many
    monkeypatch.setenv(CACHE_VARIABLE, megabytes)
    for _ in range(2):
        np.testing.assert_array_equal(read(array, WHOLE), pixels)
    assert len(files) == kept, "an index of four chunks has 64 bytes"


@pytest.mark.parametrize("text", ["-1", "much", "", "nan", "inf"])
def test_a_setting_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, many: Any, text: str) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, text)
    with pytest.raises(UserError, match=CACHE_VARIABLE):
        read(many[0], WHOLE)


def test_changes_on_disk_outdate_remembered_indexes(many: Any) -> None:
    array, pixels, files = many
    read(array, WHOLE)
    assert len(files) == 36
    shards = sorted(path for path in (Path(array.path) / "c").rglob("*") if path.is_file())
    flip_byte(shards[0], -1)
    with pytest.raises(UserError, match="is damaged"):
        read(array, WHOLE)
    flip_byte(shards[0], -1)
    np.testing.assert_array_equal(read(array, WHOLE), pixels)
    shards[1].unlink()
    with pytest.raises(UserError, match="is missing"):
        read(array, WHOLE)


def test_threads_share_few_files_without_mixing_them_up(many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    array, pixels, _ = many
    monkeypatch.setattr(shard_files, "MOST_OPEN", 2)
    wrong: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for _ in range(60):
                y, x = (int(at) for at in random.integers(0, 17, 2))
                region = (slice(y, y + 7), slice(x, x + 7))
                if not np.array_equal(read(array, region), pixels[region]):
                    wrong.append(str(region))
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
