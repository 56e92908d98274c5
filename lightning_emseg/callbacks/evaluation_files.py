"""Files of validations and tests: scores, error maps, and pictures of predictions beside image and truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.geometry import Shape
from lightning_emseg.core.distributed import from_all_ranks, from_first_rank, share_out
from lightning_emseg.core.pictures import Picture, draw_class_comparison, draw_comparison, save, stack
from lightning_emseg.core.tables import write_json, write_whole
from lightning_emseg.evaluation.error_pictures import write_error_files
from lightning_emseg.evaluation.mosaics import datasets_of, decide_rows
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.modules.mixin import SegmentationMixin


def _verb_and_loaders(trainer: pl.Trainer) -> tuple[str, Any]:
    return ("test", trainer.test_dataloaders) if trainer.testing else ("validate", trainer.val_dataloaders)


class ScoreFiles(pl.Callback):
    """Writes the whole-mosaic scores of ``validate`` and ``test`` (and of full validations in ``fit``).

    At the very end of each, because Lightning calls the epoch-end hooks of callbacks before the module's own.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``scores-validate.*`` or ``scores-test.*``."""
        assert isinstance(pl_module, SegmentationMixin)
        table = pl_module.scores
        if table is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        folder, name = Path(trainer.default_root_dir), f"scores-{_verb_and_loaders(trainer)[0]}"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", table.to_json())
        if table.rows:
            table.write_csv(folder / f"{name}.csv")
        write_whole(folder / f"{name}.txt", f"{table.text()}\n")
        rank_zero_info(f"\n{table.text()}\n{folder / f'{name}.json'}")

    on_test_end = on_validation_end


class ErrorMaps(pl.Callback):
    """Writes ``errors-<verb>/`` in ``validate`` and ``test``, which ``emseg report`` shows; nothing in a fit.

    For every whole mosaic: image, truth, probability and errors as in Figure 6 of the U-RISC papers, the worst regions
    in full resolution, breaks (gaps in a true membrane) and spurious membranes with place and size. Errors within a
    tolerance, which are of thickness, are told apart from real ones. Mosaics are shared out over ranks. Nothing is
    written of several classes, of which these errors are not defined.

    Args:
        tolerance_nm: Distance from the other's foreground up to which an error is one of thickness.

    Raises:
        UserError: if the tolerance is negative.
    """

    def __init__(self, tolerance_nm: float = 10.0) -> None:
        if not tolerance_nm >= 0:
            raise UserError(f"ErrorMaps: tolerance_nm must be at least 0, but is {tolerance_nm}")
        self.tolerance_nm = tolerance_nm

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have whole maps kept until the end."""
        if stage in ("validate", "test") and isinstance(pl_module, SegmentationMixin):
            pl_module.keeps_maps = pl_module.keeps_maps or not pl_module.classes

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``errors-validate/`` or ``errors-test/``."""
        verb, loaders = _verb_and_loaders(trainer)
        if not isinstance(pl_module, SegmentationMixin) or trainer.state.fn != verb or pl_module.scores is None:
            return
        maps = pl_module.whole_maps()
        if maps is None:
            return
        folder, level = Path(trainer.default_root_dir) / f"errors-{verb}", level_of(float(pl_module.threshold))
        views = {
            view.key: (number, view)
            for data in datasets_of(loaders)
            if data.sweep
            for number, view in enumerate(data.mosaics)
        }
        maps.flush()

        def write(key: str) -> dict[str, Any]:
            number, view = views[key]
            origin = (0,) * len(view.shape)
            image, truth = view.read_image(origin, view.shape), view.read_mask(origin, view.shape)
            return write_error_files(
                folder, key, image, truth, maps.read(number), level, view.pixel_size_nm, self.tolerance_nm
            )[0]

        entries = share_out(write, list(pl_module.scores.rows))
        if trainer.is_global_zero and entries:
            write_json(folder / "index.json", {"mosaics": entries})
            rank_zero_info(f"errors of {len(entries)} mosaics: {folder}")

    on_test_end = on_validation_end


class Overlays(pl.Callback):
    """Draws image, truth, prediction and coloured errors, into ``figures/`` and the loggers that take pictures.

    In ``fit`` the first validation tiles go to ``figures/validation.png`` after every validation; in ``validate`` and
    ``test`` the middle of the first mosaics goes to ``figures/<verb>-<mosaic>.png``. Of volumes only tiles that are
    planes are drawn. Rank 0 draws what all ranks have predicted.

    Args:
        tiles: Number of tiles, or of mosaics.
        side: Largest side of a picture of a mosaic, in px.
    """

    def __init__(self, tiles: int = 4, side: int = 768) -> None:
        self.tiles, self.side = tiles, side
        # Image, truth and prediction (a probability or classes) of tiles, by their number.
        self._tiles: dict[int, tuple[Picture, ...]] = {}
        # Position of a mosaic, first row in px of its crop, and predicted rows of the crop.
        self._rows: list[tuple[int, int, Picture]] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._tiles, self._rows = {}, []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what will be drawn of a batch of tiles, or of stitched rows."""
        if isinstance(outputs, Tensor):
            for place, number in enumerate(batch["index"].tolist()):
                if number < self.tiles and outputs.ndim == 3:
                    parts = (batch["image"][place, 0], batch["mask"][place], outputs[place])
                    self._tiles[number] = tuple(part.cpu().numpy() for part in parts)
            return
        mosaics = datasets_of(_verb_and_loaders(trainer)[1])[dataloader_idx].mosaics
        for rows in outputs:
            if rows.mosaic >= self.tiles or rows.probability.ndim != 2:
                continue
            origin, size = self._window(mosaics[rows.mosaic].shape)
            first = max(origin[0], rows.start)
            last = min(origin[0] + size[0], rows.start + len(rows.probability))
            if first < last:
                part = decide_rows(rows)[first - rows.start : last - rows.start, origin[1] : origin[1] + size[1]]
                # A copy, as a slice would keep the whole width of the mosaic.
                self._rows.append((rows.mosaic, first - origin[0], part.numpy().copy()))

    on_test_batch_end = on_validation_batch_end

    def _window(self, shape: Shape) -> tuple[Shape, Shape]:
        size = tuple(min(self.side, side) for side in shape)
        return tuple((side - extent) // 2 for side, extent in zip(shape, size, strict=True)), size

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the tiles, and the mosaics where a sweep was made."""
        if trainer.sanity_checking:
            return
        everywhere = from_all_ranks(lambda: (self._tiles, self._rows))
        tiles = {number: tile for mine, _ in everywhere for number, tile in mine.items()}
        rows = [part for _, mine in everywhere for part in mine]
        from_first_rank(lambda: self._draw(trainer, pl_module, tiles, rows))

    on_test_end = on_validation_end

    def _draw(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        tiles: dict[int, tuple[Picture, ...]],
        rows: list[tuple[int, int, Picture]],
    ) -> None:
        if tiles:
            _publish(trainer, "validation", stack([_picture(module, *tiles[number]) for number in sorted(tiles)]))
        if not rows:
            return
        verb, loaders = _verb_and_loaders(trainer)
        mosaics = next(data.mosaics for data in datasets_of(loaders) if data.sweep is not None)
        for index in sorted({mosaic for mosaic, _, _ in rows}):
            origin, size = self._window(mosaics[index].shape)
            crop = np.zeros(size, np.uint8)
            for _, first, predicted in (part for part in rows if part[0] == index):
                crop[first : first + len(predicted)] = predicted
            image, truth = mosaics[index].read_image(origin, size), mosaics[index].read_mask(origin, size)
            name = f"{verb}-{mosaics[index].key.replace('/', '-')}"
            _publish(trainer, name, _picture(module, image, truth, crop))


def _publish(trainer: pl.Trainer, name: str, picture: Picture) -> None:
    save(picture, Path(trainer.default_root_dir) / "figures" / f"{name}.png")
    for logger in trainer.loggers:
        log_picture(logger, name, picture, trainer.global_step)


def _picture(module: pl.LightningModule, image: Picture, truth: Picture, predicted: Picture) -> Picture:
    assert isinstance(module, SegmentationMixin)
    if module.classes:
        return draw_class_comparison(image, truth, predicted, module.classes)
    return draw_comparison(image, truth, predicted, level_of(float(module.threshold)))


def log_picture(logger: Logger, name: str, picture: Picture, step: int) -> None:
    """Log a picture to TensorBoard or W&B; other loggers take none."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)
