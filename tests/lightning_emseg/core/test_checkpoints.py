"""Checkpoints: written whole, checked when read, and refused with a message."""

import io
import multiprocessing
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.errors import UserError
from lightning_emseg.core import checkpoints
from lightning_emseg.core.checkpoints import write
from lightning_emseg.modules.smp_model import LinkNet
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny


@pytest.fixture(scope="module")
def trained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(1)
    module = VanillaUNet(base_channels=4, depth=2, grey_mean=120.0, optimizer=partial(torch.optim.Adam, lr=0.01))
    trainer = tiny.quiet_trainer(folder)
    trainer.fit(module, tiny.data_of(tiny_store))
    trainer.save_checkpoint(folder / "v.ckpt")
    return folder / "v.ckpt"


def test_loads_without_running_code(trained: Path) -> None:
    content = torch.load(trained, weights_only=True)
    assert content["emseg"]["architecture"] == "VanillaUNet"
    assert "mean_f1 on validation" in content["emseg"]["threshold_source"]
    assert content["state_dict"]["grey_mean"] == 120
    assert "threshold" in content["state_dict"]


def test_module_built_in_python_loads_by_lightning(trained: Path) -> None:
    module = VanillaUNet.load_from_checkpoint(trained, map_location="cpu")
    assert float(module.grey_mean) == 120
    given = torch.load(trained, weights_only=True)["state_dict"]
    assert all(torch.equal(value, given[key]) for key, value in module.state_dict().items())
    assert module.hparams["base_channels"] == 4


def test_start_from_takes_all_weights_and_nothing_else(trained: Path, tiny_store: Path, tmp_path: Path) -> None:
    module = VanillaUNet(base_channels=4, depth=2, start_from=str(trained))
    trainer = tiny.quiet_trainer(tmp_path, max_epochs=0, limit_val_batches=0)
    trainer.fit(module, tiny.data_of(tiny_store))
    given = torch.load(trained, weights_only=True)["state_dict"]
    assert all(torch.equal(value, given[key]) for key, value in module.state_dict().items())
    assert trainer.current_epoch == 0


def test_start_from_is_not_needed_after_training(trained: Path, tiny_store: Path, tmp_path: Path) -> None:
    module = VanillaUNet(base_channels=4, depth=2, start_from=str(tmp_path / "gone.ckpt"))
    tiny.quiet_trainer(tmp_path).test(module, tiny.data_of(tiny_store), str(trained), verbose=False)
    with pytest.raises(UserError, match=r"no checkpoint at .*gone\.ckpt"):
        tiny.quiet_trainer(tmp_path).fit(module, tiny.data_of(tiny_store))


@pytest.mark.parametrize("other", [UNet(tiny.ENCODER), VanillaUNet(base_channels=8, depth=2)])
def test_another_architecture_is_explained(
    trained: Path, tiny_store: Path, tmp_path: Path, other: UNet | VanillaUNet
) -> None:
    with pytest.raises(UserError, match="is of VanillaUNet and does not fit the configured") as caught:
        tiny.quiet_trainer(tmp_path).test(other, tiny.data_of(tiny_store), str(trained), verbose=False)
    assert len(str(caught.value)) < 600
    assert "Use the --config" in str(caught.value)


def test_files_that_are_no_checkpoints(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        checkpoints.read(tmp_path / "none.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(trained.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read as a checkpoint"):
        checkpoints.read(tmp_path / "cut.ckpt")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="no `state_dict`"):
        checkpoints.read(tmp_path / "other.ckpt")


def test_a_file_with_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.read(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_load_weights_names_what_differs(trained: Path) -> None:
    with pytest.raises(UserError, match=r"VanillaUNet and does not fit the configured LinkNet: \d+ missing, e\.g\. "):
        checkpoints.load_weights(LinkNet(tiny.ENCODER), trained)


def test_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # The test vector of FIPS 180-2.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checkpoints.file_hash(tmp_path / "f") == expected


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


def _checkpoint(value: int, count: int = 50) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((count,), float(value))}, "epoch": value}


def _saved(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(_checkpoint(7), buffer, **options)
    return buffer.getvalue()


SAVED = _saved()


def _is_the_original(found: dict[str, Any]) -> bool:
    original = _checkpoint(7)
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
        write(_checkpoint(number), path)
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
