"""Pictures of predictions beside image and truth: files in ``figures/``, and images in the loggers that take them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from data_modules.batch import Batch
from data_modules.grid import Shape
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.metrics.pixel import level_of
from lightning_emseg.modules.evaluation import datasets_of
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.report.overlay import Picture, comparison, save, stack


class Overlays(pl.Callback):
    """Draws image, truth, probability and coloured errors.

    In ``fit`` the first validation tiles go to ``figures/validation.png`` after every validation; in ``validate`` and
    ``test`` the middle of the first mosaics goes to ``figures/<verb>-<mosaic>.png``. Mosaics of two axes only.

    Args:
        tiles: Number of tiles, or of mosaics.
        side: Largest side of a picture of a mosaic, in px.
    """

    def __init__(self, tiles: int = 4, side: int = 768) -> None:
        self.tiles, self.side = tiles, side
        self._tiles: list[tuple[Picture, Picture, Picture]] = []
        self._crops: dict[int, Picture] = {}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._tiles, self._crops = [], {}

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._tiles, self._crops = [], {}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what will be drawn."""
        if isinstance(outputs, Tensor):
            self._keep_tiles(batch, outputs)
        else:
            self._keep_rows(trainer.val_dataloaders, dataloader_idx, outputs)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what will be drawn."""
        self._keep_rows(trainer.test_dataloaders, dataloader_idx, outputs)

    def _keep_tiles(self, batch: Batch, probability: Tensor) -> None:
        if probability.ndim == 3:
            for index in range(min(len(probability), self.tiles - len(self._tiles))):
                quantised = (probability[index].float() * 255).round().to(torch.uint8)
                parts = (batch["image"][index, 0], batch["mask"][index], quantised)
                self._tiles.append(tuple(part.cpu().numpy() for part in parts))  # type: ignore[arg-type]

    def _keep_rows(self, loaders: Any, loader: int, finished: list[StitchedRows]) -> None:
        mosaics = datasets_of(loaders)[loader].mosaics
        for rows in finished:
            if rows.mosaic >= self.tiles or rows.probability.ndim != 2:
                continue
            origin, size = self._window(mosaics[rows.mosaic].shape)
            crop = self._crops.setdefault(rows.mosaic, np.zeros(size, np.uint8))
            first = max(origin[0], rows.start)
            last = min(origin[0] + size[0], rows.start + len(rows.probability))
            if first < last:
                part = rows.probability[first - rows.start : last - rows.start, origin[1] : origin[1] + size[1]]
                crop[first - origin[0] : last - origin[0]] = part.numpy()

    def _window(self, shape: Shape) -> tuple[Shape, Shape]:
        size = tuple(min(self.side, side) for side in shape)
        return tuple((side - extent) // 2 for side, extent in zip(shape, size, strict=True)), size

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the tiles, and the mosaics where a sweep was made."""
        if trainer.sanity_checking:
            return
        if self._tiles:
            pictures = [comparison(*tile, level=_level(pl_module)) for tile in self._tiles]
            self._publish(trainer, "validation", stack(pictures))
        self._draw_mosaics(trainer, pl_module, "validate", trainer.val_dataloaders)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the mosaics."""
        self._draw_mosaics(trainer, pl_module, "test", trainer.test_dataloaders)

    def _draw_mosaics(self, trainer: pl.Trainer, module: pl.LightningModule, verb: str, loaders: Any) -> None:
        if not self._crops or trainer.world_size > 1:
            return  # each rank has only its own rows; pictures of whole runs are for `emseg report`
        mosaics = next(data.mosaics for data in datasets_of(loaders) if data.sweep is not None)
        for index, crop in self._crops.items():
            origin, size = self._window(mosaics[index].shape)
            image, truth = mosaics[index].read_image(origin, size), mosaics[index].read_mask(origin, size)
            name = f"{verb}-{mosaics[index].key.replace('/', '-')}"
            self._publish(trainer, name, comparison(image, truth, crop, _level(module)))

    def _publish(self, trainer: pl.Trainer, name: str, picture: Picture) -> None:
        if trainer.is_global_zero:
            save(picture, Path(trainer.default_root_dir) / "figures" / f"{name}.png")
            for logger in trainer.loggers:
                log_picture(logger, name, picture, trainer.global_step)


def log_picture(logger: Logger, name: str, picture: Picture, step: int) -> None:
    """Log a picture to TensorBoard or W&B; other loggers take none."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)


def _level(module: pl.LightningModule) -> int:
    assert isinstance(module, SegmentationMixin)
    return level_of(float(module.threshold))
