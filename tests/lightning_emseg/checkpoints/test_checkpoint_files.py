"""Checkpoint files survive kills and full disks, and damaged ones are told from whole ones."""

import io
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.errors import UserError
from lightning_emseg import checkpoints
from lightning_emseg.checkpoints.atomic import AtomicCheckpoints
from lightning_emseg.checkpoints.files import damage, write
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny


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
@settings(max_examples=400, deadline=None)
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    _assert_noticed_or_harmless(tmp_path_factory.getbasetemp() / "flipped.ckpt", at)


@given(length=st.integers(0, len(SAVED) - 1))
@settings(max_examples=100, deadline=None)
def test_no_cut_file_is_read(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.ckpt"
    path.write_bytes(SAVED[:length])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read as a checkpoint; it may be cut short"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"hello " * 1000, b"\x80\x02", bytes(5000), b"PK\x03\x04" + bytes(99)]
)
def test_other_files_are_refused_without_advice_to_run_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.ckpt cannot be read as a checkpoint.*: \S") as caught:
        checkpoints.read(tmp_path / "other.ckpt")
    assert "weights_only" not in str(caught.value)


def test_a_wrong_weight_is_refused_by_the_name_of_its_record(tmp_path: Path) -> None:
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
def test_no_flipped_bit_of_the_archives_tables_goes_unnoticed(tmp_path: Path) -> None:
    for at in range(8 * SAVED.index(b"PK\x01\x02"), 8 * len(SAVED)):
        _assert_noticed_or_harmless(tmp_path / "flipped.ckpt", at)


def test_checkpoints_of_old_torch_and_of_lightning_still_load(tmp_path: Path) -> None:
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


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
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


@pytest.fixture(scope="module")
def resumable(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resumable") / "checkpoints" / "last.ckpt"
    trainer = tiny.quiet_trainer(path.parent, limit_val_batches=0, plugins=[AtomicCheckpoints()])
    trainer.fit(VanillaUNet(base_channels=4, depth=2), tiny.data_of(tiny_store))
    trainer.save_checkpoint(path)
    return path


def _resume(path: Path, store: Path, **options: Any) -> int:
    trainer = tiny.quiet_trainer(path.parent, max_epochs=2, limit_val_batches=0, plugins=[AtomicCheckpoints()])
    trainer.fit(VanillaUNet(base_channels=4, depth=2), tiny.data_of(store), ckpt_path=path, **options)
    return trainer.global_step


def test_trainer_saves_and_resumes_through_it(resumable: Path, tiny_store: Path) -> None:
    assert damage(resumable) is None
    # Two steps an epoch.
    assert torch.load(resumable, weights_only=True)["global_step"] == 2
    assert _resume(resumable, tiny_store) == 4


def test_trainer_refuses_a_damaged_checkpoint_by_name(resumable: Path, tiny_store: Path, tmp_path: Path) -> None:
    cut = tmp_path / "last.ckpt"
    cut.write_bytes(resumable.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read as a checkpoint"):
        _resume(cut, tiny_store)


def test_trainer_runs_no_code_even_if_it_is_asked_to(resumable: Path, tiny_store: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({**torch.load(resumable, weights_only=True), "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt cannot be read .*would run or make `posix.mkdir`") as caught:
        _resume(tmp_path / "evil.ckpt", tiny_store, weights_only=False)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
