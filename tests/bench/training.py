"""Steps per second of ``Trainer.fit`` from the store, against the same fit with one batch held in memory.

Each fit is a block of steps, and fits take turns. The first steps of each do not count: loader processes start in them.
"""

import functools
import itertools
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from data_modules.batch import Batch
from data_modules.mosaic import Mosaic
from lightning_emseg.callbacks import Throughput
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.smp_model import LinkNet
from lightning_emseg.modules.unet import UNet
from tests.bench.harness import Row, cores, interleave, median, store_of

TARGET = 0.97
HELD = "one batch held in memory"


def rows(scratch: Path) -> Iterator[Row]:
    """Rows for the CPU or, where there is one, for the GPU."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    store_of(scratch / "s.zarr", (8192, 8192), "train/a")
    store_of(scratch / "s.zarr", (1024, 1024), "val/a")
    if torch.cuda.is_available():
        workers = [0, 1, 2, *(count for count in (4, 8) if count <= cores())]
        for batch in (4, 8, 16):
            make = functools.partial(UNet, encoder="resnet50")
            yield from compare(make, scratch, 1024, batch, workers, warm=10, steps=40, precision="bf16-mixed")
    else:
        # At 1024² a step takes 5–7 s on two cores; a quarter of the pixels makes reading four times as urgent.
        yield from compare(LinkNet, scratch, 512, 1, [0, 1, 2], warm=3, steps=10, precision="32-true")


def compare(
    make: Callable[[], SegmentationMixin],
    scratch: Path,
    patch: int,
    batch: int,
    workers: list[int],
    warm: int,
    steps: int,
    precision: Any,
    repeats: int = 7,
) -> Iterator[Row]:
    """One row for each number of loader processes."""
    module = make()
    name = f"{type(module).__name__}, {batch} × {patch}² px, {precision}"
    blocks: dict[str, Block] = {}
    for count in workers:
        options: dict[str, Any] = {"patch_size": patch, "batch_size": batch, "num_workers": count, "seed": 0}
        data = Mosaic(str(scratch / "s.zarr"), patches_per_epoch=batch * (warm + steps), **options)
        blocks[f"{count} workers"] = Block(module, data, warm, precision)
    blocks[HELD] = Block(module, held_batches(scratch, patch, batch, warm + steps), warm, precision)
    interleave(blocks, repeats, warmup=0)
    held = blocks[HELD].seconds_per_step
    for title, block in itertools.islice(blocks.items(), len(workers)):
        # Blocks of one round are neighbours in time, so that a slow minute of the machine cancels out of their ratio.
        ratio = median([own / other for own, other in zip(held, block.seconds_per_step, strict=True)])
        yield Row(
            "training",
            f"{name}, {title}",
            batch / median(block.seconds_per_step),
            "patches/s",
            HELD,
            ratio,
            f"≥ {TARGET} ×",
            ratio >= TARGET,
            f"waits for data {100 * median(block.wait_shares):.1f} % of the time",
        )


def held_batches(scratch: Path, patch: int, batch: int, count: int) -> DataLoader[Batch]:
    """One batch of the store, from the loader itself and so pinned where the loader pins, ``count`` times."""
    data = Mosaic(str(scratch / "s.zarr"), patch_size=patch, batch_size=batch, patches_per_epoch=batch, seed=0)
    data.setup("fit")
    held: Batch = next(iter(data.train_dataloader()))
    held_again: Any = [held] * count
    return DataLoader(held_again, batch_size=None)


class Block:
    """One fit of a few steps, to be called again and again.

    Args:
        module: To train; all blocks share it.
        data: Data module or loader.
        warm: First steps, which do not count.
        precision: Of the trainer.

    Attributes:
        seconds_per_step: Of every call.
        wait_shares: Of every call, of all its steps.
    """

    def __init__(self, module: SegmentationMixin, data: Mosaic | DataLoader[Batch], warm: int, precision: Any) -> None:
        self._module, self._data, self._warm, self._precision = module, data, warm, precision
        self.seconds_per_step: list[float] = []
        self.wait_shares: list[float] = []

    def __call__(self) -> None:
        """Fit for one epoch."""
        watch = StepWatch(self._warm)
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            precision=self._precision,
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[watch, Throughput()],
        )
        if isinstance(self._data, Mosaic):
            trainer.fit(self._module, datamodule=self._data)
        else:
            trainer.fit(self._module, train_dataloaders=self._data)
        self.seconds_per_step.append(watch.seconds_per_step)
        self.wait_shares.append(watch.wait_share)


class StepWatch(pl.Callback):
    """Mean seconds of the steps after the first ``warm``; waits for the device twice and never in between."""

    def __init__(self, warm: int) -> None:
        self._warm, self._began = warm, 0.0
        self._waited = 0.0
        self.seconds_per_step = self.wait_share = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the watch after the last warm step, stop it after the last of all."""
        waited = trainer.profiler.waited  # type: ignore[attr-defined]
        if batch_idx + 1 == self._warm:
            self._began, self._waited = _now(), waited
        elif batch_idx + 1 == trainer.num_training_batches:
            seconds = _now() - self._began
            self.seconds_per_step = seconds / (batch_idx + 1 - self._warm)
            self.wait_share = (waited - self._waited) / seconds


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
