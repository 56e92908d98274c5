"""Runs that are stopped or killed, and go on with the same bits."""

import os
import signal
import sys
import threading
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info
from torch.optim.lr_scheduler import ReduceLROnPlateau

from data_modules.batch import Batch


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` after every epoch whose score was not the best.

    Lightning's own callback writes it only together with a best one, so that a killed run would lose all epochs since.
    As a ``Checkpoint`` it has its turn after the trainer's other callbacks, and after a ``ModelCheckpoint`` before it.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if nothing was saved of this step."""
        saver = model_checkpoint(trainer)
        if saver is None or saver.save_last is not True:
            return
        if saver._last_global_step_saved != trainer.global_step:
            path = _last(saver)
            trainer.save_checkpoint(path)
            # Otherwise a resumed run without a new best one is saved again at its end, as of one epoch later.
            saver._last_checkpoint_saved = str(path)


def model_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """Find the callback that keeps best checkpoints; the trainer's own first may be another kind of ``Checkpoint``."""
    return next((each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)), None)


class ResumablePlateau(pl.Callback):
    """Writes a ``ReduceLROnPlateau`` into checkpoints as it will be when the epoch is over.

    Lightning saves after validation, steps such a scheduler later, and leaves out the step of the first epoch that ends
    in a resumed run, wherever that epoch was interrupted: learning rates would come down an epoch late each time.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Tell Lightning that this epoch's end is not behind it, as there was a batch."""
        trainer.fit_loop._restarting = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Step, write down, step back."""
        epochs = trainer.fit_loop.epoch_progress.current
        if not trainer.is_last_batch or epochs.completed == epochs.ready:
            return
        for number, config in enumerate(trainer.lr_scheduler_configs):
            scheduler, score = config.scheduler, trainer.callback_metrics.get(str(config.monitor))
            if not isinstance(scheduler, ReduceLROnPlateau) or config.interval != "epoch" or score is None:
                continue
            before = deepcopy(scheduler.state_dict())
            rates = [group["lr"] for group in scheduler.optimizer.param_groups]
            scheduler.step(float(score))
            checkpoint["lr_schedulers"][number] = deepcopy(scheduler.state_dict())
            saved = checkpoint["optimizer_states"][0]["param_groups"]
            for group, kept, rate in zip(scheduler.optimizer.param_groups, saved, rates, strict=True):
                kept["lr"], group["lr"] = group["lr"], rate
            scheduler.load_state_dict(before)


class KeyedRandomness(pl.Callback):
    """Seeds torch before every training batch by (run's seed, epoch, batch, rank), for dropout and its like.

    A resumed run then draws what an uninterrupted one draws, without a random state in checkpoints, which could only be
    that of rank 0; and the ranks, which start from one seed, do not drop out the same.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seed CPU and accelerators."""
        key = (int(os.environ.get("PL_GLOBAL_SEED", 0)), trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


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
        if self._former is None and threading.current_thread() is threading.main_thread():
            self._former = signal.getsignal(signal.SIGUSR1)
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._note)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen, where there was no sanity check."""
        self.on_sanity_check_start(trainer, pl_module)

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
        every = trainer.val_check_batch
        # Without epochs between validations, batches are counted through.
        counted = batch_idx if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx
        validation_is_due = trainer.is_last_batch or (every is not None and (counted + 1) % every == 0)
        if (batch_idx + 1) % trainer.accumulate_grad_batches or validation_is_due:
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
