"""Score files and error maps of whole mosaics."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from data_modules.errors import UserError
from data_modules.store import MosaicView
from lightning_emseg.core.distributed import share_out
from lightning_emseg.core.tables import write_json, write_whole
from lightning_emseg.evaluation.error_pictures import write_error_files
from lightning_emseg.evaluation.mosaics import datasets_of
from lightning_emseg.inference.stitching import MosaicMaps
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.modules.mixin import SegmentationMixin


class ScoreFiles(pl.Callback):
    """Writes the whole-mosaic scores of ``validate`` and ``test`` (and of full validations in ``fit``).

    At the very end of each, because Lightning calls the epoch-end hooks of callbacks before the module's own.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``scores-validate.*``."""
        self._write(trainer, pl_module, "validate")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``scores-test.*``."""
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, verb: str) -> None:
        assert isinstance(pl_module, SegmentationMixin)
        table = pl_module.scores
        if table is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"scores-{verb}.json", table.to_json())
        if table.rows:
            table.write_csv(folder / f"scores-{verb}.csv")
        write_whole(folder / f"scores-{verb}.txt", f"{table.text()}\n")
        rank_zero_info(f"\n{table.text()}\n{folder / f'scores-{verb}.json'}")


class ErrorMaps(pl.Callback):
    """Writes ``errors-<verb>/`` in ``validate`` and ``test``, which ``emseg report`` shows.

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
        """Write ``errors-validate/``; nothing in a fit."""
        self._write(trainer, pl_module, "validate", trainer.val_dataloaders)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``errors-test/``."""
        self._write(trainer, pl_module, "test", trainer.test_dataloaders)

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule, verb: str, loaders: Any) -> None:
        if not isinstance(module, SegmentationMixin):
            return
        maps = module.whole_maps()
        if trainer.state.fn != verb or maps is None or module.scores is None:
            return
        views = {
            view.key: (number, view)
            for data in datasets_of(loaders)
            if data.sweep
            for number, view in enumerate(data.mosaics)
        }
        folder = Path(trainer.default_root_dir) / f"errors-{verb}"
        level = level_of(float(module.threshold))
        maps.flush()
        entries = share_out(
            lambda key: self._of_mosaic(folder, *views[key], maps, level),
            list(module.scores.rows),
        )
        if trainer.is_global_zero and entries:
            write_json(folder / "index.json", {"mosaics": entries})
            rank_zero_info(f"errors of {len(entries)} mosaics: {folder}")

    def _of_mosaic(self, folder: Path, number: int, view: MosaicView, maps: MosaicMaps, level: int) -> dict[str, Any]:
        origin = (0,) * len(view.shape)
        image, truth = view.read_image(origin, view.shape), view.read_mask(origin, view.shape)
        return write_error_files(
            folder, view.key, image, truth, maps.read(number), level, view.pixel_size_nm, self.tolerance_nm
        )[0]
