"""Checkpoint files survive kills and full disks."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg import checkpoints
from lightning_emseg.checkpoints.files import write


def _content(value: int, count: int = 50) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((count,), float(value))}, "epoch": value}


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for state in ("start the run again", f"--ckpt_path {path}"):
        # Writing to this device fails as on a full disk.
        (tmp_path / ".last.ckpt.partial").symlink_to("/dev/full")
        with pytest.raises(UserError, match="No space left on device") as caught:
            write(_content(2, count=100_000), path)
        assert f"checkpoint {path} could not be written" in str(caught.value)
        assert state in str(caught.value)
        assert not (tmp_path / ".last.ckpt.partial").is_symlink()
        if not path.exists():
            write(_content(1), path)
    assert checkpoints.read(path)["epoch"] == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["last.ckpt"]


def test_what_cannot_be_saved_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="pickle"):
        write({"state_dict": lambda: None}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def _write_for_ever(path: Path) -> None:
    for value in range(1, 10**6):
        write(_content(value, count=100_000), path)


def test_kill_at_any_moment_leaves_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    random = np.random.default_rng(5)
    write(_content(0, count=100_000), path)
    advanced = 0
    for _ in range(15):
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(path,))
        writer.start()
        time.sleep(random.uniform(0.005, 0.12))
        writer.kill()
        writer.join()
        found = checkpoints.read(path)
        assert bool((found["state_dict"]["weight"] == found["epoch"]).all())
        advanced += found["epoch"] > 0
    assert advanced
    write(_content(1), path)
    # What a killed writer had begun goes with the next one.
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
