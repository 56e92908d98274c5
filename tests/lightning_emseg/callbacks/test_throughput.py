"""Throughput against loaders and steps of known duration."""

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.profilers import SimpleProfiler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.batch import Batch
from lightning_emseg.callbacks import Throughput
from lightning_emseg.callbacks.throughput import LoaderClock, peak_memory_mib
from tests.support import tiny
from tests.support.processes import run_group


class Clock:
    """A clock that stands still but for what loaders and steps say that they took."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the callback and of Lightning's profiler."""
    found = Clock()
    monkeypatch.setattr("lightning_emseg.callbacks.throughput.time", found)
    monkeypatch.setattr("pytorch_lightning.profilers.simple.time", found)
    return found


class SlowBatches(Dataset[Batch]):
    """Two patches of 100 × 50 px a batch, each batch after a known time."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds, self.clock = seconds, clock

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Batch:
        self.clock.now += self.seconds
        image = torch.zeros(2, 1, 100, 50, dtype=torch.uint8)
        nothing = torch.zeros(2, dtype=torch.int64)
        return Batch(image=image, mosaic=nothing, origin=nothing, pixel_size_nm=nothing, index=nothing)


class SlowSteps(pl.LightningModule):
    """Steps and validations of known durations."""

    def __init__(self, step: float, validation: float, clock: Clock) -> None:
        super().__init__()
        self.step, self.validation, self.clock = step, validation, clock
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.clock.now += self.step
        return self.weight**2

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.clock.now += self.validation

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def _logged(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.fixture
def slow_fit(tmp_path: Path, clock: Clock) -> tuple[pl.Trainer, list[dict[str, float]]]:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = tiny.quiet_trainer(
        tmp_path, logger=logger, max_epochs=2, log_every_n_steps=3, callbacks=[Throughput()], profiler=SimpleProfiler()
    )
    training, validation = (DataLoader(SlowBatches(wait, clock), batch_size=None) for wait in (0.04, 0.1))
    trainer.fit(SlowSteps(step=0.08, validation=0.1, clock=clock), training, validation)
    return trainer, _logged(tmp_path)


def test_speed_is_that_of_loader_and_step(slow_fit: tuple[pl.Trainer, list[dict[str, float]]]) -> None:
    _, rows = slow_fit
    steps = [row for row in rows if "speed/patches_per_s" in row]
    epochs = [row for row in rows if "speed/patches_per_s_epoch" in row]
    assert [row["step"] for row in steps] == [2, 5, 8, 11]
    assert [row["step"] for row in epochs] == [5, 11]
    for rows_of_kind, suffix in ((steps, ""), (epochs, "_epoch")):
        for row in rows_of_kind:
            # Of 0.12 s a step 0.04 s are the loader's.
            assert row[f"speed/data_wait_share{suffix}"] == pytest.approx(1 / 3, rel=1e-5)
            assert row[f"speed/patches_per_s{suffix}"] == pytest.approx(2 / 0.12, rel=1e-5)
            share = row[f"speed/megapixels_per_s{suffix}"] / row[f"speed/patches_per_s{suffix}"]
            assert share == pytest.approx(100 * 50 / 1e6)
            assert 50 < row[f"speed/peak_memory_mib{suffix}"] < 20_000


def test_profiler_sees_everything_and_comes_back(
    slow_fit: tuple[pl.Trainer, list[dict[str, float]]],
) -> None:
    trainer, _ = slow_fit
    profiler = trainer.profiler  # type: ignore[attr-defined]
    assert type(profiler) is SimpleProfiler
    waits = profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]
    assert len(waits) == 12
    assert waits == pytest.approx([0.04] * 12)


def test_profiler_comes_back_from_a_broken_fit(tmp_path: Path, clock: Clock) -> None:
    class Breaks(SlowSteps):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            raise ZeroDivisionError

    profiler = SimpleProfiler()
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[Throughput()], profiler=profiler, limit_val_batches=0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Breaks(0.0, 0.0, clock), DataLoader(SlowBatches(0.0, clock), batch_size=None))
    assert trainer.profiler is profiler  # type: ignore[attr-defined]


def test_clock_counts_the_training_loader_alone(clock: Clock) -> None:
    loader_clock = LoaderClock(SimpleProfiler())
    for action in ("run_training_batch", "[_EvaluationLoop].val_next", "[_TrainingEpochLoop].train_dataloader_next"):
        with loader_clock.profile(action):
            clock.now += 0.01
    assert loader_clock.waited == pytest.approx(0.01)


def test_accumulated_steps_are_logged_once(tiny_store: Path, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    options: dict[str, Any] = {"log_every_n_steps": 1, "accumulate_grad_batches": 2, "limit_val_batches": 0}
    trainer = tiny.quiet_trainer(tmp_path, logger=logger, callbacks=[Throughput()], **options)
    trainer.fit(tiny.GreyModule(), tiny.data_of(tiny_store, patches_per_epoch=8))
    rows = [row for row in _logged(tmp_path) if "speed/patches_per_s" in row]
    assert len(rows) == 2
    for row in rows:
        assert 0 <= row["speed/data_wait_share"] <= 1
        assert row["speed/megapixels_per_s"] / row["speed/patches_per_s"] == pytest.approx(64 * 64 / 1e6)


def peaks_of_held_memory(rank: int) -> tuple[float, float, float]:
    """Peaks before, while and after twice as much is held."""
    before = peak_memory_mib()
    held = torch.ones(int(2 * before), 2**20, dtype=torch.uint8)
    during = peak_memory_mib()
    del held
    return before, during, peak_memory_mib()


def test_peak_memory_follows_what_is_held() -> None:
    # In a process of its own: that of the tests may have held gigabytes before.
    ((before, during, after),) = run_group(peaks_of_held_memory, 1)
    assert 0.9 * before < during - before < 4.2 * before
    assert after == pytest.approx(during, rel=0.1)
