"""Which checkpoints a run writes, when and how often: the best in epochs that are the best, the last in all."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lightning_emseg.callbacks import LastCheckpoint
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
