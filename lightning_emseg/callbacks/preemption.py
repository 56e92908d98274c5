"""Runs that are told to stop, as by Slurm's preemption, stop between two steps and lose none."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info

from data_modules.batch import Batch
from lightning_emseg.callbacks.last_checkpoint import model_checkpoint

STOPPED = 128 + signal.SIGTERM
"""Exit status of a run that was stopped, as of any program that SIGTERM ends."""


class Preemption(pl.Callback):
    """On SIGTERM or SIGUSR1, to any rank, all ranks end with one checkpoint, ``last.ckpt``, and exit status 143.

    It is written after the next optimizer step, unless validation is due then, which comes first. The run that resumes
    from it begins with the next batch. Handlers that Lightning sets up are put off until then (Slurm's requeueing) or
    replaced: they checkpoint, and talk to other ranks, in the middle of a step. Callbacks behind this one are not told
    of the last batch.
    """

    def __init__(self) -> None:
        self._received = 0
        self._former: Any = None

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen, where there was no sanity check."""
        self._listen()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, if the checkpoint of the last epoch's end has it all."""
        saver = model_checkpoint(trainer)
        if saver is not None and saver.save_last and 0 < trainer.global_step == saver._last_global_step_saved:
            received = self._received_by_any(trainer)
            if received:
                self._stop(trainer, received, _last(saver))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save and stop, unless gradients are still being summed up or validation comes next."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or _validation_is_due(trainer, batch_idx):
            return
        received = self._received_by_any(trainer)
        if not received:
            return
        saver = model_checkpoint(trainer)
        path = _last(saver) if saver is not None else None
        if path is not None:
            if trainer.is_global_zero and path.is_symlink():
                path.unlink()  # or else the best checkpoint would be written over
            trainer.save_checkpoint(path)
        self._stop(trainer, received, path)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget; Lightning puts all handlers back."""
        self._received, self._former = 0, None

    def _listen(self) -> None:
        if self._former is None and threading.current_thread() is threading.main_thread():
            self._former = signal.getsignal(signal.SIGUSR1)
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def _received_by_any(self, trainer: pl.Trainer) -> int:
        if trainer.world_size == 1:
            return self._received
        held = torch.tensor(self._received, device=trainer.strategy.root_device)
        reduced = trainer.strategy.reduce(held, reduce_op="max")
        assert isinstance(reduced, torch.Tensor)
        return int(reduced)

    def _stop(self, trainer: pl.Trainer, received: int, path: Path | None) -> None:
        how = f"resume with --ckpt_path {path}" if path else "nothing is saved, as checkpoints are switched off"
        rank_zero_info(f"stopped by {signal.Signals(received).name} after step {trainer.global_step}: {how}")
        if received == signal.SIGUSR1 and callable(self._former):
            self._former(received, None)
        environment = getattr(trainer.strategy, "cluster_environment", None)
        # Lightning kills the main process when one that it has started fails, which may still be closing its log.
        started_by_lightning = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        sys.exit(0 if started_by_lightning else STOPPED)


def _last(saver: ModelCheckpoint) -> Path:
    return Path(saver.dirpath or ".") / f"{saver.CHECKPOINT_NAME_LAST}{saver.FILE_EXTENSION}"


def _validation_is_due(trainer: pl.Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch
    # Without epochs between validations, batches are counted through.
    counted = batch_idx if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx
    return trainer.is_last_batch or (every is not None and (counted + 1) % every == 0)
