"""How fast training runs, and how much of the time it waits for data."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler

from data_modules.batch import Batch


class Throughput(pl.Callback):
    """Logs the speed of training every ``trainer.log_every_n_steps`` steps, and per epoch under names in ``_epoch``.

    - ``speed/patches_per_s`` and ``speed/megapixels_per_s``, over all ranks
    - ``speed/data_wait_share``: share of the time in which the training loop waited for the loader's next batch, mean
      over ranks. Without worker processes this is all of the reading; augmentation on the device is not in it. On an
      accelerator kernels run on while the loop waits, so it is the most that the accelerator can have idled for data.
    - ``speed/peak_memory_mib``: highest resident memory of a rank's process so far, its loader processes not included
    - ``speed/peak_gpu_memory_mib``: highest memory that torch has allocated on a rank's GPU so far

    Validation is left out of the time. The accelerator is waited for when a value is logged and at no other time.
    """

    def __init__(self) -> None:
        self._clock: LoaderClock | None = None
        self._recent = self._epoch = _Tally(0.0, 0.0)
        self._logged_step = -1
        self._paused = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to time the loader; Lightning tells its profiler, and nobody else, when it asks for a batch."""
        self._clock = LoaderClock(trainer.profiler)  # type: ignore[attr-defined]
        trainer.profiler = self._clock  # type: ignore[attr-defined]
        # A run that goes on in the middle of an epoch is not told of the epoch's start.
        self._recent, self._epoch = (_Tally(time.perf_counter(), 0.0) for _ in range(2))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        assert self._clock is not None
        self._recent, self._epoch = (_Tally(time.perf_counter(), self._clock.waited) for _ in range(2))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch, and log when it is time."""
        image = batch["image"]
        for tally in (self._recent, self._epoch):
            tally.patches += len(image)
            tally.pixels += len(image) * image[0, 0].numel()
        step, every = trainer.global_step, int(getattr(trainer, "log_every_n_steps", 0))
        # With accumulation several batches share a step.
        if every and step and step % every == 0 and step != self._logged_step:
            self._logged_step = step
            self._log(trainer, pl_module, self._recent)
            assert self._clock is not None
            self._recent = _Tally(time.perf_counter(), self._clock.waited)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the watch."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let it go on."""
        pause = time.perf_counter() - self._paused
        for tally in (self._recent, self._epoch):
            tally.began += pause

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch as a whole."""
        self._log(trainer, pl_module, self._epoch, "_epoch")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the user's profiler back."""
        if self._clock is not None:
            trainer.profiler = self._clock.inner  # type: ignore[attr-defined]
            self._clock = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the user's profiler back."""
        self.on_train_end(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, module: pl.LightningModule, tally: "_Tally", suffix: str = "") -> None:
        assert self._clock is not None
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - tally.began
        waited = (self._clock.waited - tally.waited_before) / seconds
        peaks = {"speed/peak_memory_mib": peak_memory_mib()}
        if device.type == "cuda":
            peaks["speed/peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        rates = (tally.patches / seconds, tally.pixels / 1e6 / seconds, waited)
        totals = _over_ranks(trainer, rates, "sum")
        highest = _over_ranks(trainer, tuple(peaks.values()), "max")
        values = {
            "speed/patches_per_s": totals[0],
            "speed/megapixels_per_s": totals[1],
            "speed/data_wait_share": totals[2] / trainer.world_size,
            **dict(zip(peaks, highest, strict=True)),
        }
        module.log_dict({f"{name}{suffix}": value for name, value in values.items()})


@dataclass
class _Tally:
    """What was counted since a moment: ``began`` in seconds of the clock, ``waited_before`` in seconds."""

    began: float
    waited_before: float
    patches: int = 0
    pixels: int = 0


class LoaderClock(Profiler):
    """Passes everything on to another profiler, and adds up how long the training loop waits for batches.

    Args:
        inner: The trainer's own profiler.

    Attributes:
        waited: Seconds so far.
    """

    def __init__(self, inner: Profiler) -> None:
        super().__init__()
        self.inner, self.waited = inner, 0.0
        self._began = 0.0

    def start(self, action_name: str) -> None:
        """As Lightning calls it at the beginning of everything that it does."""
        self.inner.start(action_name)
        if action_name.endswith("train_dataloader_next"):
            self._began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """As Lightning calls it at the end."""
        if action_name.endswith("train_dataloader_next"):
            self.waited += time.perf_counter() - self._began
        self.inner.stop(action_name)


def _over_ranks(trainer: pl.Trainer, values: tuple[float, ...], how: str) -> list[float]:
    held = torch.tensor(values, dtype=torch.float32, device=trainer.strategy.root_device)
    reduced = trainer.strategy.reduce(held, reduce_op=how)
    assert isinstance(reduced, torch.Tensor)
    return reduced.tolist()


def peak_memory_mib() -> float:
    """Read the highest resident memory that this process has had."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux hands `ru_maxrss` down from a parent, however large that was.
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) / 1024
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss / 2**20 if sys.platform == "darwin" else peak_rss / 1024
