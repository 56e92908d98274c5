"""Throughput against loaders and steps of known duration, and the bar's megapixels against geometry by hand."""

import csv
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks.progress import tqdm_progress
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.profilers import SimpleProfiler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.batch import Batch
from data_modules.grid import Grid, RowSpan, Sweep
from lightning_emseg.callbacks import MegapixelProgressBar, Throughput
from lightning_emseg.callbacks.progress import SweepProgress
from lightning_emseg.callbacks.throughput import LoaderClock
from tests.support import tiny

# Description, unit, count and total that a bar shows.
Told = list[tuple[str, str, float, float | None]]


class SlowBatches(Dataset[Batch]):
    """Two patches of 100 × 50 px a batch, each batch after a known time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Batch:
        time.sleep(self.seconds)
        image = torch.zeros(2, 1, 100, 50, dtype=torch.uint8)
        nothing = torch.zeros(2, dtype=torch.int64)
        return Batch(image=image, mosaic=nothing, origin=nothing, pixel_size_nm=nothing, index=nothing)


class SlowSteps(pl.LightningModule):
    """Steps and validations of known durations."""

    def __init__(self, step: float, validation: float) -> None:
        super().__init__()
        self.step, self.validation = step, validation
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        time.sleep(self.step)
        return self.weight**2

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        time.sleep(self.validation)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def _logged(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.fixture
def slow_fit(tmp_path: Path) -> tuple[pl.Trainer, list[dict[str, float]]]:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = tiny.quiet_trainer(
        tmp_path, logger=logger, max_epochs=2, log_every_n_steps=3, callbacks=[Throughput()], profiler=SimpleProfiler()
    )
    training, validation = (DataLoader(SlowBatches(wait), batch_size=None) for wait in (0.04, 0.1))
    trainer.fit(SlowSteps(step=0.08, validation=0.1), training, validation)
    return trainer, _logged(tmp_path)


def test_speed_is_that_of_loader_and_step(slow_fit: tuple[pl.Trainer, list[dict[str, float]]]) -> None:
    _, rows = slow_fit
    steps = [row for row in rows if "speed/patches_per_s" in row]
    epochs = [row for row in rows if "speed/patches_per_s_epoch" in row]
    assert [row["step"] for row in steps] == [2, 5, 8, 11]
    assert [row["step"] for row in epochs] == [5, 11]
    for rows_of_kind, suffix in ((steps, ""), (epochs, "_epoch")):
        for row in rows_of_kind:
            # Of 0.12 s a step 0.04 s are the loader's. Sleeping never ends early; a busy machine ends it late.
            assert row[f"speed/data_wait_share{suffix}"] == pytest.approx(1 / 3, abs=0.08)
            assert 0.6 * 2 / 0.12 < row[f"speed/patches_per_s{suffix}"] <= 2 / 0.12
            share = row[f"speed/megapixels_per_s{suffix}"] / row[f"speed/patches_per_s{suffix}"]
            assert share == pytest.approx(100 * 50 / 1e6)
            assert 50 < row[f"speed/peak_memory_mib{suffix}"] < 20_000


def test_profiler_of_the_user_sees_everything_and_comes_back(
    slow_fit: tuple[pl.Trainer, list[dict[str, float]]],
) -> None:
    trainer, _ = slow_fit
    profiler = trainer.profiler  # type: ignore[attr-defined]
    assert type(profiler) is SimpleProfiler
    waits = profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]
    assert len(waits) == 12
    assert min(waits) >= 0.04


def test_profiler_comes_back_from_a_broken_fit(tmp_path: Path) -> None:
    class Breaks(SlowSteps):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            raise ZeroDivisionError

    profiler = SimpleProfiler()
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[Throughput()], profiler=profiler, limit_val_batches=0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Breaks(0.0, 0.0), DataLoader(SlowBatches(0.0), batch_size=None))
    assert trainer.profiler is profiler  # type: ignore[attr-defined]


def test_clock_counts_the_training_loader_alone() -> None:
    clock = LoaderClock(SimpleProfiler())
    for action in ("run_training_batch", "[_EvaluationLoop].val_next", "[_TrainingEpochLoop].train_dataloader_next"):
        with clock.profile(action):
            time.sleep(0.01)
    assert 0.01 <= clock.waited < 0.02


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


HELD = """
import torch
from lightning_emseg.callbacks.throughput import peak_memory_mib
before = peak_memory_mib()
held = torch.ones(int(2 * before), 2**20, dtype=torch.uint8)
during = peak_memory_mib()
del held
print(before, during, peak_memory_mib())
"""


def test_peak_memory_follows_what_is_held() -> None:
    # In a process of its own: that of the tests may have held gigabytes before.
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    before, during, after = map(float, done.stdout.split())
    assert 0.9 * before < during - before < 4.2 * before
    assert after == pytest.approx(during, rel=0.1)


class _Shown(tqdm_progress.Tqdm):
    """Keeps what every bar was told, in order."""

    told: ClassVar[Told] = []

    def refresh(self, *args: Any, **kwargs: Any) -> None:
        if not self.disable:
            self.told.append((str(self.desc).split(":")[0], self.unit, self.n, self.total))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(tqdm_progress, "Tqdm", _Shown)
    monkeypatch.setattr(_Shown, "told", [])
    return _Shown.told


# 500 × 300 and 200 × 100 px, tiles of 64 px that overlap by half: 15 × 9 and 6 × 3 windows.
SHAPES = ((500, 300), (200, 100))
TOTAL = 0.17


@pytest.fixture(scope="module")
def larger_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "s.zarr"
    tiny.make_store(path, {"train": ((100, 100),), "val": SHAPES, "test": SHAPES})
    return path


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_bar_counts_megapixels_of_mosaic(verb: str, larger_store: Path, tmp_path: Path, told: Told) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[MegapixelProgressBar()], enable_progress_bar=True)
    options: dict[str, Any] = {"return_predictions": False} if verb == "predict" else {"verbose": False}
    getattr(trainer, verb)(tiny.GreyModule(), tiny.data_of(larger_store, overlap=0.5), **options)
    shown = [(n, total) for _, unit, n, total in told if unit == "MPx"]
    assert all(total == TOTAL for _, total in shown)
    counts = [n for n, _ in shown]
    assert counts == sorted(counts)
    assert counts[-1] == TOTAL
    # One batch of two tiles, of 135 that share 0.15 MPx: shown to 0.01 MPx.
    assert counts[0] == round(0.15 * 2 / 135, 2)
    first = 15 * math.ceil(9 / 2)
    assert counts[first - 1] == 0.15
    assert len(counts) == first + 6 * math.ceil(3 / 2)


def test_training_and_cheap_validation_count_batches(larger_store: Path, tmp_path: Path, told: Told) -> None:
    trainer = tiny.quiet_trainer(
        tmp_path, callbacks=[MegapixelProgressBar()], enable_progress_bar=True, num_sanity_val_steps=1
    )
    data = tiny.data_of(larger_store, overlap=0.5, val_tiles=6, full_validation_every=1)
    trainer.fit(tiny.GreyModule(), data)
    by_description: dict[str, set[tuple[str, float | None]]] = {}
    for description, unit, _, total in told:
        by_description.setdefault(description, set()).add((unit, total))
    assert ("it", 2) in by_description["Epoch 0"]
    assert ("it", 3) in by_description["Validation DataLoader 0"]
    assert ("MPx", TOTAL) in by_description["Validation DataLoader 1"]
    assert not any(unit == "MPx" for name in ("Epoch 0", "Validation DataLoader 0") for unit, _ in by_description[name])
    assert not any(unit == "MPx" for name in by_description if "Sanity" in name for unit, _ in by_description[name])


def test_bar_without_a_display_says_nothing(larger_store: Path, tmp_path: Path, told: Told) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[MegapixelProgressBar(refresh_rate=0)], enable_progress_bar=True)
    trainer.test(tiny.GreyModule(), tiny.data_of(larger_store), verbose=False)
    assert [n for _, _, n, _ in told if n] == []


def test_what_is_left_of_a_sweep_is_its_total() -> None:
    grids = (Grid((4000, 1000), (256, 256), 0.5), Grid((300, 2000), (256, 256), 0.5))
    spans = (RowSpan(0, 2048, 4000), RowSpan(1, 0, 300))
    progress = SweepProgress(Sweep(grids, spans, batch_size=4))
    assert progress.total == pytest.approx((1952 * 1000 + 300 * 2000) / 1e6)
    assert not progress.finished
    # Rows of tiles begin every 128 px; those from 1,920 on reach into the span, and one is snapped to the border.
    rows = len([start for start in (*range(0, 3744, 128), 3744) if start + 256 > 2048])
    columns = len([*range(0, 744, 128), 744])
    for _ in range(rows):
        for first in range(0, columns, 4):
            progress.add(min(4, columns - first))
    assert progress.done == pytest.approx(1.952)
    for _ in range(2):  # rows of tiles at 0 and 44 px, 15 tiles each
        for tiles in (4, 4, 4, 3):
            progress.add(tiles)
    assert progress.done == pytest.approx(progress.total)
    assert progress.finished


def test_sweep_without_rows_is_finished() -> None:
    progress = SweepProgress(Sweep((Grid((400, 100), (64, 64)),), (), batch_size=4))
    progress.add(0)
    assert (progress.total, progress.done, progress.finished) == (0, 0, True)
