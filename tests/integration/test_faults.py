"""Faults in the middle of an epoch end a run with one message; checkpoints from before it stay whole."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from lightning_emseg import cli
from lightning_emseg.trainer_cli import AtomicCheckpoints
from tests.support import tiny
from tests.support.failing_parts import KeepTrainer
from tests.support.processes import run_lightning_of_user, run_nodes


def _experiment(folder: Path, store: Path, **trainer: object) -> Path:
    sizes = {"base_channels": 4, "depth": 2}
    data = {"store": str(store), "patch_size": 64, "batch_size": 2, "patches_per_epoch": 8}
    options = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder / "run"),
    }
    content = {
        "model": {"class_path": "VanillaUNet", "init_args": sizes},
        "data": {"class_path": "Mosaic", "init_args": data},
        "trainer": {**options, **trainer},
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _sabotage(action: str, path: Path) -> list[dict[str, object]]:
    return [{"class_path": "tests.support.failing_parts.Sabotage", "init_args": {"action": action, "path": str(path)}}]


def _ended(capsys: pytest.CaptureFixture[str], config: Path, *more: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fit", "--config", str(config), *more])
    assert isinstance(caught.value.code, str), capsys.readouterr().err
    assert caught.value.code.startswith("error: ")
    assert len(caught.value.code) < 900
    assert "Traceback" not in capsys.readouterr().err
    return caught.value.code


WORKERS = [0, pytest.param(1, marks=pytest.mark.slow)]


@pytest.fixture
def own_store(tiny_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_store, tmp_path / "s.zarr"))


@pytest.mark.parametrize("workers", WORKERS)
def test_shards_that_are_damaged_in_an_epoch(
    own_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    config = _experiment(tmp_path, own_store, callbacks=_sabotage("flip", own_store))
    message = _ended(capsys, config, "--data.num_workers", str(workers))
    # Whichever meets the damage first: training, or the validation after it where a loader has read ahead.
    assert re.search(r"image of (train|val)/m", message)
    assert "stored data is damaged in region" in message


@pytest.mark.parametrize("workers", WORKERS)
def test_store_that_vanishes_in_an_epoch(
    own_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    config = _experiment(tmp_path, own_store, callbacks=_sabotage("delete", own_store))
    message = _ended(capsys, config, "--data.num_workers", str(workers))
    assert "has gone since this run opened it" in message
    assert str(own_store) in message


def test_full_disk_at_a_checkpoint(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run" / "checkpoints"
    config = _experiment(tmp_path, tiny_store, callbacks=_sabotage("fill", folder / ".last.ckpt.partial"))
    message = _ended(capsys, config)
    assert f"checkpoint {folder / 'last.ckpt'} could not be written (No space left on device)" in message
    assert [path.name for path in folder.iterdir()] == ["best.ckpt"]
    assert torch.load(folder / "best.ckpt", weights_only=True)["epoch"] == 0


def _flip_a_weight(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        record = archive.read(max(archive.infolist(), key=lambda info: info.file_size))
    content = bytearray(path.read_bytes())
    content[content.index(record) + len(record) // 2] ^= 4
    path.write_bytes(content)


def test_damaged_checkpoint_offers_the_one_before(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _experiment(tmp_path, tiny_store, max_epochs=1)
    cli.main(["fit", "--config", str(config)])
    folder = tmp_path / "run" / "checkpoints"
    _flip_a_weight(folder / "last.ckpt")
    message = _ended(capsys, config, "--ckpt_path", str(folder / "last.ckpt"))
    assert f"error: {folder / 'last.ckpt'} cannot be read as a checkpoint" in message
    assert f"pass --ckpt_path {folder / 'best.ckpt'}" in message
    cli.main(["fit", "--config", str(config), "--trainer.max_epochs", "2", "--ckpt_path", str(folder / "best.ckpt")])
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 1


def test_loss_that_is_not_a_number(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _experiment(tmp_path, tiny_store)
    loss = ["--model.loss", "tests.support.failing_parts.BrokenLoss", "--model.loss.call", "6"]
    message = _ended(capsys, config, *loss)
    assert "training loss is nan in epoch 1 at step 5" in message
    assert str(tmp_path / "run" / "bad-batch.json") in message
    # Of the epoch before.
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_step_that_needs_too_much_memory(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _experiment(tmp_path, tiny_store, num_sanity_val_steps=0)
    message = _ended(capsys, config, "--model.loss", "tests.support.failing_parts.HungryLoss")
    assert "this machine's memory is full" in message
    assert "data.batch_size" in message


def test_plugins_of_the_user_stay(tiny_store: Path, tmp_path: Path) -> None:
    callbacks = [{"class_path": "tests.support.failing_parts.KeepTrainer"}]
    environment = "lightning_fabric.plugins.environments.LightningEnvironment"
    config = _experiment(tmp_path, tiny_store, callbacks=callbacks, plugins=[environment], fast_dev_run=True)
    cli.main(["fit", "--config", str(config)])
    assert KeepTrainer.trainer is not None
    assert isinstance(KeepTrainer.trainer.strategy.checkpoint_io, AtomicCheckpoints)
    config.write_text(config.read_text().replace(environment, "pytorch_lightning.plugins.io.TorchCheckpointIO"))
    cli.main(["fit", "--config", str(config)])
    assert not isinstance(KeepTrainer.trainer.strategy.checkpoint_io, AtomicCheckpoints)


def _ended_by_ranks(config: Path, *more: str) -> str:
    words = ["fit", "--config", str(config), "--trainer.devices", "2", "--trainer.strategy", "ddp", *more]
    ended = run_nodes(words, config.parent, {}, "LOCAL_RANK", 2)
    assert ended.statuses == [1, 1], ended.said
    return "\n".join(ended.said)


@pytest.mark.ddp
@pytest.mark.slow
def test_full_disk_of_the_first_rank_ends_all(tiny_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    callbacks = _sabotage("fill", folder / ".best.ckpt.partial")
    # Started as a user does it, so that the other rank is Lightning's to start and to end.
    config = _experiment(tmp_path, tiny_store, callbacks=callbacks)
    done = run_lightning_of_user(["fit", "--config", str(config)], 2, tmp_path)
    assert done.returncode != 0
    message = f"error: checkpoint {folder / 'best.ckpt'} could not be written (No space left on device)"
    assert message in done.stderr


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "message", "ranks"),
    [
        ("BrokenLoss", "error: the training loss is nan in epoch 0 at step 1", [1]),
        # Gradients are summed over the ranks, so that nobody knows whose they were.
        ("SteepLoss", r"is NaN or infinite, though the loss is -?[\d.]+, in epoch 0 at step 1", [0, 1]),
    ],
)
def test_all_ranks_stop_at_one_bad_loss(tmp_path: Path, loss: str, message: str, ranks: list[int]) -> None:
    made = tiny.make_store(tmp_path / "s.zarr")
    config = _experiment(tmp_path, tmp_path / "s.zarr")
    broken = ["--model.loss", f"tests.support.failing_parts.{loss}", "--model.loss.call", "2", "--model.loss.rank", "1"]
    written = _ended_by_ranks(config, *broken)
    assert len(re.findall(message, written)) == 2
    assert "Traceback" not in written
    record = json.loads((tmp_path / "run" / "bad-batch.json").read_text())
    # Patch k of the epoch's global order belongs to rank k mod 2; the second step has those from the fifth on.
    expected = [(rank, index) for rank in ranks for index in (4 + rank, 6 + rank)]
    assert [(patch["rank"], patch["index"]) for patch in record["patches"]] == expected
    assert {patch["sample"] for patch in record["patches"]} <= set(made)
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
