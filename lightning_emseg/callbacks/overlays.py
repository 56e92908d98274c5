"""Pictures of predictions beside image and truth: files in ``figures/``, and images in the loggers that take them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from data_modules.batch import Batch
from data_modules.geometry import Shape
from lightning_emseg.core.distributed import from_all_ranks, from_first_rank
from lightning_emseg.core.pictures import Picture, class_comparison, comparison, save, stack
from lightning_emseg.evaluation.mosaics import datasets_of
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.modules.mixin import SegmentationMixin

_Tile = tuple[Picture, Picture, Picture]
"""Image, truth and prediction (a probability or classes), each ``uint8 (Y, X)``."""


@dataclass(frozen=True)
class _CropRows:
    """Rows of the crop of a mosaic.

    Attributes:
        mosaic: Position of the mosaic in its list.
        first: First row, in px of the crop.
        predicted: ``uint8 (rows, X)``, probability or classes.
    """

    mosaic: int
    first: int
    predicted: Picture


class Overlays(pl.Callback):
    """Draws image, truth, prediction and coloured errors.

    In ``fit`` the first validation tiles go to ``figures/validation.png`` after every validation; in ``validate`` and
    ``test`` the middle of the first mosaics goes to ``figures/<verb>-<mosaic>.png``. Of volumes only tiles that are
    planes are drawn. Rank 0 draws what all ranks have predicted.

    Args:
        tiles: Number of tiles, or of mosaics.
        side: Largest side of a picture of a mosaic, in px.
    """

    def __init__(self, tiles: int = 4, side: int = 768) -> None:
        self.tiles, self.side = tiles, side
        self._tiles: dict[int, _Tile] = {}
        self._rows: list[_CropRows] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._tiles, self._rows = {}, []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._tiles, self._rows = {}, []

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

    def _keep_tiles(self, batch: Batch, predicted: Tensor) -> None:
        for place, number in enumerate(batch["index"].tolist()):
            if number < self.tiles and predicted.ndim == 3:
                parts = (batch["image"][place, 0], batch["mask"][place], predicted[place])
                self._tiles[number] = tuple(part.cpu().numpy() for part in parts)  # type: ignore[assignment]

    def _keep_rows(self, loaders: Any, loader: int, finished: list[StitchedRows]) -> None:
        mosaics = datasets_of(loaders)[loader].mosaics
        for rows in finished:
            if rows.mosaic >= self.tiles or rows.probability.ndim != 2:
                continue
            origin, size = self._window(mosaics[rows.mosaic].shape)
            first = max(origin[0], rows.start)
            last = min(origin[0] + size[0], rows.start + len(rows.probability))
            if first < last:
                predicted = rows.probability if rows.classes is None else rows.classes
                part = predicted[first - rows.start : last - rows.start, origin[1] : origin[1] + size[1]]
                # A copy, as a slice would keep the whole width of the mosaic.
                self._rows.append(_CropRows(rows.mosaic, first - origin[0], part.numpy().copy()))

    def _window(self, shape: Shape) -> tuple[Shape, Shape]:
        size = tuple(min(self.side, side) for side in shape)
        return tuple((side - extent) // 2 for side, extent in zip(shape, size, strict=True)), size

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the tiles, and the mosaics where a sweep was made."""
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, "validate", trainer.val_dataloaders)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the mosaics."""
        self._draw(trainer, pl_module, "test", trainer.test_dataloaders)

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule, verb: str, loaders: Any) -> None:
        everywhere = from_all_ranks(lambda: (self._tiles, self._rows))
        tiles = {number: tile for mine, _ in everywhere for number, tile in mine.items()}
        rows = [part for _, mine in everywhere for part in mine]

        def draw() -> None:
            if tiles:
                pictures = [_picture(module, *tiles[number]) for number in sorted(tiles)]
                _publish(trainer, "validation", stack(pictures))
            if rows:
                self._draw_mosaics(trainer, module, verb, loaders, rows)

        from_first_rank(draw)

    def _draw_mosaics(
        self, trainer: pl.Trainer, module: pl.LightningModule, verb: str, loaders: Any, rows: Sequence[_CropRows]
    ) -> None:
        mosaics = next(data.mosaics for data in datasets_of(loaders) if data.sweep is not None)
        for index in sorted({part.mosaic for part in rows}):
            origin, size = self._window(mosaics[index].shape)
            crop = np.zeros(size, np.uint8)
            for part in (part for part in rows if part.mosaic == index):
                crop[part.first : part.first + len(part.predicted)] = part.predicted
            image, truth = mosaics[index].read_image(origin, size), mosaics[index].read_mask(origin, size)
            name = f"{verb}-{mosaics[index].key.replace('/', '-')}"
            _publish(trainer, name, _picture(module, image, truth, crop))


def _publish(trainer: pl.Trainer, name: str, picture: Picture) -> None:
    save(picture, Path(trainer.default_root_dir) / "figures" / f"{name}.png")
    for logger in trainer.loggers:
        log_picture(logger, name, picture, trainer.global_step)


def log_picture(logger: Logger, name: str, picture: Picture, step: int) -> None:
    """Log a picture to TensorBoard or W&B; other loggers take none."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)


def _picture(module: pl.LightningModule, image: Picture, truth: Picture, predicted: Picture) -> Picture:
    assert isinstance(module, SegmentationMixin)
    if module.classes:
        return class_comparison(image, truth, predicted, module.classes)
    return comparison(image, truth, predicted, level_of(float(module.threshold)))
