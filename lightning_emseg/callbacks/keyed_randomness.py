"""Random numbers of the network, keyed by where training is."""

import os

import numpy as np
import pytorch_lightning as pl
import torch

from data_modules.batch import Batch


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
