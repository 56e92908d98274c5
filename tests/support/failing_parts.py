"""Parts that fail or break something in the middle of a run; experiments name them by class path."""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class BrokenLoss(nn.Module):
    """The mean of the logits, but ``value`` at one call, on one rank."""

    def __init__(self, call: int, value: float = math.nan, rank: int = 0) -> None:
        super().__init__()
        self.call, self.value, self.rank = call, value, rank
        self.calls = 0

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        self.calls += self.training
        is_bad = self.calls == self.call and int(os.environ.get("LOCAL_RANK", 0)) == self.rank
        mean: Tensor = logits.mean()
        # Value and gradient are spoilt alike.
        return mean + mean / mean.detach() * self.value if is_bad else mean


class SteepLoss(nn.Module):
    """The mean of the logits, but with an infinite slope at one call, on one rank, as a square root has it at 0."""

    def __init__(self, call: int, rank: int = 0) -> None:
        super().__init__()
        self.call, self.rank = call, rank
        self.calls = 0

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        self.calls += self.training
        is_bad = self.calls == self.call and int(os.environ.get("LOCAL_RANK", 0)) == self.rank
        mean: Tensor = logits.mean()
        return mean + (mean - mean.detach()).sqrt() if is_bad else mean


class HungryLoss(nn.Module):
    """Asks for more memory than any machine has."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return logits.sum() + torch.ones(2**55, dtype=torch.uint8).sum()


class FaultyCallback(pl.Callback):
    """Has a mistake in its code that stops the trainer's constructor."""

    @property
    def state_key(self) -> str:
        _first, second = type(self).__name__.split("_")
        return second

    def state_dict(self) -> dict[str, int]:
        # Trainers look at once for two callbacks that would save their state under one key.
        return {"epochs": 0}


def flip_bytes(folder: Path) -> None:
    """Invert a byte in every shard."""
    for shard in folder.glob("*/*/0/c/**/*"):
        if shard.is_file():
            content = bytearray(shard.read_bytes())
            content[len(content) // 3] ^= 0xFF
            shard.write_bytes(content)


def delete(folder: Path) -> None:
    """Remove a store."""
    shutil.rmtree(folder)


def fill(path: Path) -> None:
    """Let every write to ``path`` fail as on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")


ACTIONS: Mapping[str, Callable[[Path], None]] = {"flip": flip_bytes, "delete": delete, "fill": fill}


class Sabotage(pl.Callback):
    """Damages or deletes a folder, or fills the disk under a file, before the second training step."""

    def __init__(self, action: Literal["flip", "delete", "fill"], path: str) -> None:
        self.action, self.path = action, Path(path)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 1 and trainer.is_global_zero:
            ACTIONS[self.action](self.path)


class KeepTrainer(pl.Callback):
    """Leaves the trainer where a test finds it."""

    trainer: pl.Trainer | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        KeepTrainer.trainer = trainer
