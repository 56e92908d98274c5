"""Checkpoints of an epoch's end that know of the step of schedulers that follow a score."""

from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
from torch.optim.lr_scheduler import ReduceLROnPlateau

from data_modules.batch import Batch


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
