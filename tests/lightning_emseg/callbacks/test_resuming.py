"""Runs that are stopped or killed, and go on with the same bits."""

import itertools
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ReduceLROnPlateau
from pytorch_lightning.plugins.io import TorchCheckpointIO

from data_modules.batch import Batch
from lightning_emseg.callbacks import LastCheckpoint, ResumablePlateau
from lightning_emseg.callbacks.resuming import STOPPED, KeyedRandomness, Preemption
from tests.support import tiny

Written = list[tuple[int, str]]


class Recorder(TorchCheckpointIO):
    """Takes down (step, name) of every file that is written."""

    def __init__(self) -> None:
        self.written: Written = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        self.written.append((checkpoint["global_step"], Path(path).name))
        super().save_checkpoint(checkpoint, path, storage_options)


class Scripted(tiny.GreyModule):
    """A module whose validations score what a script says."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.script = iter(scores)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("score", next(self.script))


def _fit(
    folder: Path, store: Path, scores: list[float], resume: str | None = None, **changes: Any
) -> tuple[Written, pl.Trainer]:
    """Two steps an epoch; one validation at the end of each, unless ``changes`` say otherwise."""
    options = {"save_last": True, **changes.pop("saver", {})}
    saver = ModelCheckpoint(
        folder, "best", monitor="score", mode="max", enable_version_counter=False, verbose=False, **options
    )
    recorder = Recorder()
    trainer = tiny.quiet_trainer(
        folder,
        # The order of the command line: its checkpoint, then the project's callbacks.
        callbacks=[saver, LastCheckpoint()],
        enable_checkpointing=True,
        plugins=[recorder],
        limit_val_batches=1,
        **{"max_epochs": 3, **changes},
    )
    trainer.fit(Scripted(scores), tiny.data_of(store, full_validation_every=0), ckpt_path=resume)
    return recorder.written, trainer


def _step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


@pytest.mark.parametrize("scores", [[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.5, 0.1], [0.5, 0.5, 0.5]])
def test_epochs_write_last_and_best_where_best(tiny_store: Path, tmp_path: Path, scores: list[float]) -> None:
    written, trainer = _fit(tmp_path, tiny_store, scores)
    expected: Written = []
    for epoch, score in enumerate(scores):
        step = 2 * (epoch + 1)
        is_best = score > max(scores[:epoch], default=-1.0)
        expected += [(step, "best.ckpt"), (step, "last.ckpt")] if is_best else [(step, "last.ckpt")]
    assert written == expected
    assert _step_of(tmp_path / "last.ckpt") == 6
    assert _step_of(tmp_path / "best.ckpt") == 2 * (scores.index(max(scores)) + 1)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    saver = trainer.checkpoint_callback
    assert isinstance(saver, ModelCheckpoint)
    assert float(saver.best_model_score or 0) == pytest.approx(max(scores))


@pytest.mark.parametrize("save_last", [False, None, "link"])
def test_last_is_written_only_on_request(tiny_store: Path, tmp_path: Path, save_last: object) -> None:
    written, _ = _fit(tmp_path, tiny_store, [0.5, 0.9, 0.1], saver={"save_last": save_last})
    assert written == [(2, "best.ckpt"), (4, "best.ckpt")]


def test_runs_without_a_model_checkpoint_write_nothing(tiny_store: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[LastCheckpoint()], plugins=[recorder], enable_checkpointing=True)
    trainer.callbacks = [each for each in trainer.callbacks if not isinstance(each, ModelCheckpoint)]  # type: ignore[attr-defined]
    trainer.fit(tiny.GreyModule(), tiny.data_of(tiny_store))
    assert recorder.written == []


def test_validations_within_an_epoch_count_too(tiny_store: Path, tmp_path: Path) -> None:
    # After every one of the two steps: best within an epoch, at its end, never.
    written, trainer = _fit(tmp_path, tiny_store, [0.5, 0.4, 0.3, 0.6, 0.2, 0.1], val_check_interval=0.5)
    assert written == [
        *((1, "best.ckpt"), (1, "last.ckpt"), (2, "last.ckpt")),
        *((4, "best.ckpt"), (4, "last.ckpt")),
        (6, "last.ckpt"),
    ]
    assert trainer.global_step == 6


def test_resumed_run_knows_the_best_score(tiny_store: Path, tmp_path: Path) -> None:
    _fit(tmp_path, tiny_store, [0.5, 0.9, 0.1])
    last = str(tmp_path / "last.ckpt")
    written, trainer = _fit(tmp_path, tiny_store, [0.8, 0.95], resume=last, max_epochs=5)
    assert written == [(8, "last.ckpt"), (10, "best.ckpt"), (10, "last.ckpt")]
    saver = trainer.checkpoint_callback
    assert isinstance(saver, ModelCheckpoint)
    assert float(saver.best_model_score or 0) == pytest.approx(0.95)
    assert saver.best_model_path == str(tmp_path / "best.ckpt")


def test_resumed_run_without_improvement_writes_last_once(tiny_store: Path, tmp_path: Path) -> None:
    _fit(tmp_path, tiny_store, [0.9, 0.5, 0.1])
    last = tmp_path / "last.ckpt"
    written, _ = _fit(tmp_path, tiny_store, [0.8, 0.7], resume=str(last), max_epochs=5)
    assert written == [(8, "last.ckpt"), (10, "last.ckpt")]
    assert torch.load(last, weights_only=True)["epoch"] == 4


def test_order_of_callbacks_does_not_matter(tiny_store: Path, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, "best", monitor="score", mode="max", save_last=True)
    trainer = tiny.quiet_trainer(
        tmp_path, callbacks=[LastCheckpoint(), saver], enable_checkpointing=True, limit_val_batches=1, max_epochs=2
    )
    assert trainer.checkpoint_callback is not saver
    trainer.fit(Scripted([0.5, 0.1]), tiny.data_of(tiny_store, full_validation_every=0))
    assert _step_of(tmp_path / "last.ckpt") == 4


def test_checkpoints_have_the_next_epochs_rate(tiny_store: Path, tmp_path: Path) -> None:
    # Steps are too small to change a score, so every epoch but the first halves the rate.
    rate = 2.0**-60
    module = tiny.GreyModule(
        optimizer=partial(torch.optim.SGD, lr=rate),
        lr_scheduler=partial(ReduceLROnPlateau, monitor="val_tiles/f1", mode="max", patience=0, factor=0.5, eps=0.0),
    )
    saver = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    trainer = tiny.quiet_trainer(
        tmp_path, callbacks=[ResumablePlateau(), saver], enable_checkpointing=True, max_epochs=3, limit_val_batches=1
    )
    trainer.fit(module, tiny.data_of(tiny_store, full_validation_every=0))
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate / 4
    for epoch in range(3):
        saved = torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=False)
        assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == rate / 2**epoch
        assert saved["lr_schedulers"][0]["last_epoch"] == epoch + 1
        assert saved["lr_schedulers"][0]["_last_lr"] == [rate / 2**epoch]


nothing = cast(Any, None)


def draws(epoch: int, batch: int, rank: int) -> list[float]:
    trainer = cast(Any, SimpleNamespace(current_epoch=epoch, global_rank=rank))
    KeyedRandomness().on_train_batch_start(trainer, nothing, nothing, batch)
    return torch.rand(3).tolist()


@pytest.fixture(autouse=True)
def _torch_state() -> Any:
    with torch.random.fork_rng([]):
        yield


def test_draws_differ_by_epoch_batch_rank_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seed in ("0", "1"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        found += [tuple(draws(*key)) for key in itertools.product(range(3), range(3), range(3))]
    assert len(set(found)) == 2 * 27


def test_draws_do_not_depend_on_earlier_draws() -> None:
    once = draws(2, 5, 1)
    torch.rand(17)
    assert draws(2, 5, 1) == once


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
    monkeypatch.setattr("lightning_emseg.callbacks.resuming.rank_zero_info", said.append)
    with pytest.raises(SystemExit):
        fit(tiny_store, tmp_path, signal.SIGTERM)
    assert said == ["stopped by SIGTERM after step 2: nothing is saved, as checkpoints are switched off"]
    assert list(tmp_path.glob("**/*.ckpt")) == []
