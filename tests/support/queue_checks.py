"""A callback that asks all ranks for their queues."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_emseg.core.checkpoints import weights_hash
from lightning_emseg.core.distributed import from_all_ranks
from lightning_emseg.modules.moco import MoCo


class QueuesAgree(pl.Callback):
    """Lets all ranks begin with queues of their own, and writes after each step how many different ones there are."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MoCo)
        with torch.no_grad():
            pl_module.queue.keys.copy_(pl_module.queue.keys.roll(trainer.global_rank, dims=1))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, MoCo)
        mine = weights_hash(pl_module.queue)
        different = len(set(from_all_ranks(lambda: mine)))
        if trainer.is_global_zero:
            with (Path(trainer.default_root_dir) / "queues.txt").open("a") as file:
                file.write(f"{different}\n")
