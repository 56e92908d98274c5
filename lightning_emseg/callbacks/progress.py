"""A progress bar that counts megapixels of mosaic where whole mosaics are swept."""

from math import prod
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from tqdm import tqdm

from data_modules.batch import Batch
from data_modules.geometry import Sweep
from lightning_emseg.evaluation.mosaics import datasets_of


class MegapixelProgressBar(TQDMProgressBar):
    """Lightning's bar, but sweeps over whole mosaics count megapixels finished, with MPx/s and the time left.

    The megapixels are those that this process produces: its rows of the mosaics, and after an interruption what is left
    of them; pixels that tiles share count once. Training and the cheap validation count batches, as ever.

    Args:
        refresh_rate: Batches between two updates; 0 for no bar.
        process_position: Lines to leave free above.
        leave: Whether the bars of finished epochs stay.
    """

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__(refresh_rate, process_position, leave)
        self._sweep: SweepProgress | None = None

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin a loader with its first batch."""
        super().on_validation_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        if batch_idx == 0:
            sweep = None if trainer.sanity_checking else datasets_of(trainer.val_dataloaders)[dataloader_idx].sweep
            self._begin(self.val_progress_bar, sweep)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin a loader with its first batch."""
        super().on_test_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        if batch_idx == 0:
            sweep = datasets_of(trainer.test_dataloaders)[dataloader_idx].sweep
            self._begin(self.test_progress_bar, sweep)

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin a loader with its first batch."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        if batch_idx == 0:
            sweep = datasets_of(trainer.predict_dataloaders)[dataloader_idx].sweep
            self._begin(self.predict_progress_bar, sweep)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        if not self._advance(self.val_progress_bar, batch, batch_idx):
            super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        if not self._advance(self.test_progress_bar, batch, batch_idx):
            super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        if not self._advance(self.predict_progress_bar, batch, batch_idx):
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def _begin(self, bar: "tqdm[Any]", sweep: Sweep | None) -> None:
        # Validation shows its loaders, with and without a sweep, one after another in the same bar.
        bar.unit = "it" if sweep is None else "MPx"
        self._sweep = None if sweep is None else SweepProgress(sweep)
        if self._sweep is not None:
            bar.total = round(self._sweep.total, 2)

    def _advance(self, bar: "tqdm[Any]", batch: Batch, batch_idx: int) -> bool:
        if self._sweep is None:
            return False
        self._sweep.add(len(batch["image"]))
        if not bar.disable and ((batch_idx + 1) % self.refresh_rate == 0 or self._sweep.finished):
            bar.n = round(self._sweep.done, 2)
            bar.refresh()
        return True


class SweepProgress:
    """Megapixels of a sweep that are done; a tile counts its share of the pixels of its span.

    Args:
        sweep: Plan of whole mosaics, whose tiles come in order.

    Attributes:
        total: Megapixels of all spans.
        done: Megapixels so far.
    """

    def __init__(self, sweep: Sweep) -> None:
        sizes = [prod((span.stop - span.start, *sweep.grids[span.mosaic].shape[1:])) / 1e6 for span in sweep.spans]
        tiles = [sum(map(len, sweep.runs(span))) for span in sweep.spans]
        self.total, self.done = sum(sizes), 0.0
        self._shares = [(count, size / count) for count, size in zip(tiles, sizes, strict=True)][::-1]
        self._left, self._share = 0, 0.0

    def add(self, tiles: int) -> None:
        """Count the tiles of one batch, which are all of one span; a sweep of nothing has a batch of none."""
        if not tiles:
            return
        if not self._left:
            self._left, self._share = self._shares.pop()
        self._left -= tiles
        self.done += tiles * self._share

    @property
    def finished(self) -> bool:
        """Whether the last tile has come."""
        return self.done >= self.total * (1 - 1e-9)
