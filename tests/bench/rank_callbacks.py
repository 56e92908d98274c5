"""Callbacks that time steps and all-reduces, and one that keeps DDP silent."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from data_modules.batch import Batch


@dataclass(frozen=True)
class Reduced:
    """All-reduces of gradients in one step of one rank.

    Attributes:
        seconds: In which at least one was under way, the wait for the other rank included.
        buckets: Their number.
        mib: What they reduced.
    """

    seconds: float
    buckets: int
    mib: float


class StepClock(pl.Callback):
    """Mean seconds of the steps after the first ``warm``; ranks that work ``together`` begin them at once."""

    def __init__(self, warm: int, together: bool) -> None:
        self._warm, self._together, self._began = warm, together, 0.0
        self.seconds_per_step = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the watch after the last warm step, stop it after the last of all."""
        if batch_idx + 1 == self._warm:
            if self._together:
                dist.barrier()
            self._began = _now()
        elif batch_idx + 1 == trainer.num_training_batches:
            self.seconds_per_step = (_now() - self._began) / (batch_idx + 1 - self._warm)


class Silence(pl.Callback):
    """Keeps DDP from synchronising gradients and the buffers of batch norms: its ``no_sync`` around a whole fit."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Enter."""
        self._held.enter_context(_ddp(trainer).no_sync())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave."""
        self._held.close()


class AllReduces(pl.Callback):
    """Times DDP's all-reduces by a communication hook that does what DDP does without one.

    Attributes:
        steps: All steps, warm ones included.
    """

    def __init__(self) -> None:
        self.steps: list[Reduced] = []
        self._began = _moment()
        self._spans: list[tuple[Any, Any, int]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Register the hook; Lightning itself does so on GPUs only."""
        _ddp(trainer).register_comm_hook(None, self._reduce)

    def _reduce(self, state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        buffer = bucket.buffer().div_(dist.get_world_size())
        began = _moment()

        def end(future: torch.futures.Future[list[Tensor]]) -> Tensor:
            self._spans.append((began, _moment(), buffer.nbytes))
            return future.value()[0]

        return dist.all_reduce(buffer, async_op=True).get_future().then(end)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Begin a step."""
        self._began, self._spans = _moment(), []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step up."""
        _now()
        spans = [(_seconds(self._began, began), _seconds(self._began, ended)) for began, ended, _ in self._spans]
        mib = sum(size for _, _, size in self._spans) / 2**20
        self.steps.append(Reduced(covered(spans), len(spans), mib))


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans ``(begin, end)``; what several cover counts once.

    >>> covered([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _ddp(trainer: pl.Trainer) -> DistributedDataParallel:
    model = trainer.strategy.model
    assert isinstance(model, DistributedDataParallel)
    return model


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _moment() -> Any:
    # On a GPU, Python hears of an all-reduce when it is queued, and again when what follows it is.
    if not torch.cuda.is_available():
        return time.perf_counter()
    return torch.cuda.current_stream().record_event(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]


def _seconds(first: Any, last: Any) -> float:
    return last - first if isinstance(first, float) else float(first.elapsed_time(last)) / 1e3
