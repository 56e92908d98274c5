"""Fits of a few steps by one process or by two, all in the same two processes, so that they can take turns."""

import copy
import gc
import logging
import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.utils.data import DataLoader

from data_modules.batch import Batch
from lightning_emseg.callbacks import FiniteLoss
from lightning_emseg.modules.mixin import SegmentationMixin
from tests.bench.harness import interleave, synthetic_image, synthetic_mask
from tests.bench.rank_callbacks import AllReduces, Reduced, Silence, StepClock

ONE, ONE_WHOLE, APART, SILENT, DDP, WATCHED = "one", "one, whole batch", "apart", "no_sync", "ddp", "watched"


@dataclass(frozen=True)
class Setting:
    """What is trained, and for how long.

    Attributes:
        make: The module; of a top level, as it is sent to other processes.
        patch: Side of a patch in px.
        batch: Patches a step of every rank.
        precision: Of the trainer.
        steps: Of a block, timed.
        rounds: Blocks of each mode.
        warm: First steps of a block, not timed; DDP sorts its buckets anew after the first.
    """

    make: Callable[[], SegmentationMixin]
    patch: int
    batch: int
    precision: Any
    steps: int
    rounds: int
    warm: int = 2


@dataclass(frozen=True)
class Mode:
    """How two processes work.

    Attributes:
        ranks: Processes that train; the others wait.
        batches: Patches of a step, in batches of the setting.
        joined: Whether DDP joins them.
        callbacks: Made for every fit.
    """

    ranks: int
    batches: int = 1
    joined: bool = False
    callbacks: tuple[Callable[[], pl.Callback], ...] = ()


# `FiniteLoss` is in every run of the command line. Under DDP it asks all ranks once a step, so silence goes without it.
MODES: Mapping[str, Mode] = {
    ONE: Mode(1, callbacks=(FiniteLoss,)),
    ONE_WHOLE: Mode(1, batches=2, callbacks=(FiniteLoss,)),
    APART: Mode(2, callbacks=(FiniteLoss,)),
    SILENT: Mode(2, joined=True, callbacks=(Silence,)),
    DDP: Mode(2, joined=True, callbacks=(FiniteLoss,)),
    WATCHED: Mode(2, joined=True, callbacks=(FiniteLoss, AllReduces)),
}


@dataclass(frozen=True)
class Measured:
    """What one rank has seen.

    Attributes:
        seconds: Per step and mode, a value for every block that this rank took part in.
        reduced: Of all timed steps of the modes that watch.
    """

    seconds: Mapping[str, list[float]]
    reduced: Mapping[str, list[Reduced]]


def measure(setting: Setting, modes: Mapping[str, Mode], ranks: int, folder: Path) -> list[Measured]:
    """Start the processes, one thread each, and let the modes take turns that need no more of them.

    Args:
        setting: What to train.
        modes: By name.
        ranks: 1 or 2.
        folder: Empty; the processes meet there and leave their results.

    Returns:
        By rank.

    Raises:
        torch.multiprocessing.ProcessRaisedException: if one of them failed; the other is ended.
    """
    possible = {name: mode for name, mode in modes.items() if mode.ranks <= ranks}
    arguments = (setting, possible, ranks, folder.resolve())
    multiprocessing.spawn(_take_part, arguments, ranks)  # type: ignore[attr-defined, no-untyped-call]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(ranks)]


def _take_part(rank: int, setting: Setting, modes: Mapping[str, Mode], ranks: int, folder: Path) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    # Lightning takes the process for one of those that it starts for `strategy: ddp`.
    os.environ["LOCAL_RANK"] = str(rank)
    device = None
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
        device = torch.device("cuda", rank)
    backend = "gloo" if device is None else "nccl"
    meeting = f"file://{folder / 'ranks'}"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=ranks, device_id=device)
    torch.manual_seed(0)
    module = setting.make()
    blocks = {name: Block(setting, mode, rank, module) for name, mode in modes.items()}
    interleave(blocks, setting.rounds, warmup=0)
    found = Measured(
        {name: block.seconds for name, block in blocks.items()}, {name: block.reduced for name, block in blocks.items()}
    )
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    dist.destroy_process_group()


class Block:
    """One fit of a few steps, to be called again and again, on every rank at the same time.

    Args:
        setting: What to train.
        mode: How; ranks beyond its number wait.
        rank: Of this process.
        module: Where each fit begins; it stays as it is.

    Attributes:
        seconds: Per step, of every call.
        reduced: Of every timed step, if the mode watches.
    """

    def __init__(self, setting: Setting, mode: Mode, rank: int, module: SegmentationMixin) -> None:
        self._setting, self._mode, self._rank, self._module = setting, mode, rank, module
        self._held = held_batch(setting.patch, setting.batch * mode.batches, rank)
        self.seconds: list[float] = []
        self.reduced: list[Reduced] = []

    def __call__(self) -> None:
        """Fit, or wait for the rank that does."""
        dist.barrier()
        if self._rank < self._mode.ranks:
            self._fit()
            # DDP's hooks on the weights go with it.
            gc.collect()
        dist.barrier()

    def _fit(self) -> None:
        setting, together = self._setting, self._mode.ranks > 1
        clock = StepClock(setting.warm, together)
        others = [make() for make in self._mode.callbacks]
        cuda = torch.cuda.is_available()
        alone: Any = [self._rank] if cuda else 1
        trainer = pl.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=2 if self._mode.joined else alone,
            strategy="ddp" if self._mode.joined else "auto",
            precision=setting.precision,
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[*others, clock],
        )
        batches: Any = [self._held] * (setting.warm + setting.steps)
        trainer.fit(copy.deepcopy(self._module), DataLoader(batches, batch_size=None))
        self.seconds.append(clock.seconds_per_step)
        for each in others:
            if isinstance(each, AllReduces):
                self.reduced += each.steps[setting.warm :]


def held_batch(patch: int, batch: int, seed: int) -> Batch:
    """A batch that costs nothing to read: ``image uint8 (B, 1, Y, X)`` and what belongs to it."""
    firsts = [patch * index for index in range(batch)]
    return {
        "image": torch.stack([torch.from_numpy(synthetic_image((patch, patch), seed, y))[None] for y in firsts]),
        "mask": torch.stack([torch.from_numpy(synthetic_mask((patch, patch), seed, y)) for y in firsts]),
        "mosaic": torch.zeros(batch, dtype=torch.int64),
        "origin": torch.tensor([[y, 0] for y in firsts]),
        "pixel_size_nm": torch.full((batch, 2), 4.0),
        "index": torch.arange(batch),
    }
