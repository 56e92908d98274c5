"""Damaged checkpoints are told from whole ones, and other files are refused."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.errors import UserError
from lightning_emseg import checkpoints
from lightning_emseg.checkpoints.files import write


def _content(value: int, count: int = 50) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((count,), float(value))}, "epoch": value}


def _saved(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(_content(7), buffer, **options)
    return buffer.getvalue()


SAVED = _saved()


def _is_the_original(found: dict[str, Any]) -> bool:
    original = _content(7)
    weight = found["state_dict"]["weight"]
    return found["epoch"] == 7 and torch.equal(weight, original["state_dict"]["weight"])


def _assert_noticed_or_harmless(path: Path, at: int) -> None:
    content = bytearray(SAVED)
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    try:
        found = checkpoints.read(path)
    except UserError as error:
        refused = str(error)
        assert "flipped.ckpt" in refused
        # Torch advises to load what it refuses with all that it may run.
        assert "weights_only" not in refused
    else:
        # Padding and dates may change; weights may not.
        assert _is_the_original(found)


@given(at=st.integers(0, 8 * len(SAVED) - 1))
# A bit of the pickled tree, of a weight, and of the tables: an entry's sum, its size, and the end of the archive.
@example(at=8 * (SAVED.index(b"state_dict") + 2))
@example(at=8 * SAVED.index(np.full(3, 7.0, np.float32).tobytes()) + 3)
@example(at=8 * (SAVED.index(b"PK\x01\x02") + 16))
@example(at=8 * (SAVED.index(b"PK\x01\x02") + 24))
@example(at=8 * (SAVED.index(b"PK\x05\x06") + 10))
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    _assert_noticed_or_harmless(tmp_path_factory.getbasetemp() / "flipped.ckpt", at)


@given(length=st.integers(0, len(SAVED) - 1))
@example(length=0)
@example(length=len(SAVED) - 1)
@example(length=SAVED.index(b"PK\x01\x02"))
@example(length=SAVED.index(b"PK\x05\x06"))
def test_no_cut_file_is_read(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.ckpt"
    path.write_bytes(SAVED[:length])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read as a checkpoint; it may be cut short"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"hello " * 1000, b"\x80\x02", bytes(5000), b"PK\x03\x04" + bytes(99)]
)
def test_other_files_are_refused_without_unsafe_advice(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.ckpt cannot be read as a checkpoint.*: \S") as caught:
        checkpoints.read(tmp_path / "other.ckpt")
    assert "weights_only" not in str(caught.value)


def test_wrong_weight_is_refused_by_its_record(tmp_path: Path) -> None:
    content = bytearray(SAVED)
    content[SAVED.index(np.full(3, 7.0, np.float32).tobytes()) + 3] ^= 1
    (tmp_path / "last.ckpt").write_bytes(content)
    # What this guards against: torch itself does not notice.
    assert not _is_the_original(torch.load(tmp_path / "last.ckpt", weights_only=True))
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read .*checksum of its record .*data/0 is wrong"):
        checkpoints.read(tmp_path / "last.ckpt")


def test_weights_that_torch_would_leave_unset_are_refused(tmp_path: Path) -> None:
    # One bit in the archive's last table makes a folder of the record: behind 38 of the 46 bytes before its name.
    content = bytearray(SAVED)
    content[SAVED.rindex(b"/data/0") - len("archive") - 46 + 38] |= 0x10
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"its record archive/data/0 is marked as a folder"):
        checkpoints.read(tmp_path / "last.ckpt")


@pytest.mark.slow
def test_no_flipped_bit_of_tables_goes_unnoticed(tmp_path: Path) -> None:
    for at in range(8 * SAVED.index(b"PK\x01\x02"), 8 * len(SAVED)):
        _assert_noticed_or_harmless(tmp_path / "flipped.ckpt", at)


def test_checkpoints_of_old_torch_still_load(tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(_saved(_use_new_zipfile_serialization=False))
    assert _is_the_original(checkpoints.read(tmp_path / "old.ckpt"))
    (tmp_path / "zip.ckpt").write_bytes(SAVED)
    assert _is_the_original(checkpoints.read(tmp_path / "zip.ckpt"))


def test_the_newest_whole_checkpoint_is_offered(tmp_path: Path) -> None:
    run = tmp_path / "run"
    order = ["earlier/2/checkpoints/last", "earlier/10/checkpoints/last", "checkpoints/best", "checkpoints/last"]
    paths = [run / f"{name}.ckpt" for name in order]
    for number, path in enumerate(paths):
        write(_content(number), path)
        # The earlier runs lie in the order of their numbers, whatever the files' dates say.
        os.utime(path, (number, number) if "earlier" not in str(path) else (9, 9 - number))
    damaged = paths[-1]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    for offered in (paths[2], paths[1], paths[0]):
        with pytest.raises(UserError) as caught:
            checkpoints.read(damaged)
        assert str(damaged) in str(caught.value)
        assert f"pass --ckpt_path {offered}" in str(caught.value)
        offered.write_bytes(b"PK")
    with pytest.raises(UserError) as caught:
        checkpoints.read(damaged)
    assert "--ckpt_path" not in str(caught.value)
