"""Megapixels of progress bars against geometry by hand."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytorch_lightning.callbacks.progress import tqdm_progress

from data_modules.geometry import Grid, RowSpan, Sweep
from lightning_emseg.callbacks import MegapixelProgressBar
from lightning_emseg.callbacks.progress import SweepProgress
from tests.support import tiny

# Description, unit, count and total that a bar shows.
Told = list[tuple[str, str, float, float | None]]


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


def test_total_is_what_is_left_of_a_sweep() -> None:
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
