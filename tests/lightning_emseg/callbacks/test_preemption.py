"""What a signal leaves behind, within this process; tests/integration/test_resumed_runs.py follows whole runs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from data_modules.batch import Batch
from lightning_emseg.callbacks.preemption import STOPPED, Preemption
from tests.support import tiny


class SignalAt(pl.Callback):
    def __init__(self, batch: int, number: signal.Signals) -> None:
        self.batch, self.number = batch, number

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fit(
    store: Path, folder: Path, number: signal.Signals, *more: pl.Callback, batch: int = 1, **changes: Any
) -> pl.Trainer:
    data = tiny.data_of(store, full_validation_every=0, patches_per_epoch=8)
    callbacks = [SignalAt(batch, number), Preemption(), *more]
    trainer = tiny.quiet_trainer(folder, callbacks=callbacks, **changes)
    trainer.fit(tiny.GreyModule(), data)
    return trainer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_saves_after_the_step_and_ends(tiny_store: Path, tmp_path: Path, number: signal.Signals) -> None:
    saver = ModelCheckpoint(tmp_path, save_last=True)
    with pytest.raises(SystemExit) as stop:
        fit(tiny_store, tmp_path, number, saver, enable_checkpointing=True)
    assert stop.value.code == STOPPED == 143
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"epoch": 0, "batches": 2}]


def test_handlers_are_put_back(tiny_store: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    with pytest.raises(SystemExit):
        fit(tiny_store, tmp_path, signal.SIGTERM)
    assert calls == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert calls == [signal.SIGTERM]


def test_requeueing_waits_for_the_checkpoint(tiny_store: Path, tmp_path: Path) -> None:
    seen: list[bool] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append((tmp_path / "last.ckpt").exists()))
    saver = ModelCheckpoint(tmp_path, save_last=True)
    with pytest.raises(SystemExit):
        fit(tiny_store, tmp_path, signal.SIGUSR1, saver, enable_checkpointing=True)
    assert seen == [True]


def test_validation_comes_first(tiny_store: Path, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, save_last=True)
    with pytest.raises(SystemExit):
        fit(tiny_store, tmp_path, signal.SIGTERM, saver, batch=3, enable_checkpointing=True, max_epochs=2)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert float(checkpoint["state_dict"]["threshold"]) != 0.5, "chosen by the validation of the epoch"


def test_the_last_epoch_ends_as_it_would(tiny_store: Path, tmp_path: Path) -> None:
    trainer = fit(tiny_store, tmp_path, signal.SIGTERM, batch=3)
    module = trainer.lightning_module
    assert isinstance(module, tiny.GreyModule)
    assert trainer.state.finished
    assert (trainer.current_epoch, trainer.global_step) == (1, 4)
    assert float(module.threshold) != 0.5, "chosen by the validation of the epoch"


def test_a_linked_last_checkpoint_is_not_written_through(tiny_store: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.ckpt"
    best.write_text("best")
    (tmp_path / "last.ckpt").symlink_to(best)
    saver = ModelCheckpoint(tmp_path, save_last="link", filename="other")
    with pytest.raises(SystemExit):
        fit(tiny_store, tmp_path, signal.SIGTERM, saver, enable_checkpointing=True)
    assert best.read_text() == "best"
    assert not (tmp_path / "last.ckpt").is_symlink()


def test_without_checkpoints_it_says_so(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("lightning_emseg.callbacks.preemption.rank_zero_info", said.append)
    with pytest.raises(SystemExit):
        fit(tiny_store, tmp_path, signal.SIGTERM)
    assert said == ["stopped by SIGTERM after step 2: nothing is saved, as checkpoints are switched off"]
    assert list(tmp_path.glob("**/*.ckpt")) == []
