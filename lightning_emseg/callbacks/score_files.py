"""Score files: ``scores-<verb>.csv`` with a row a mosaic, ``.json`` with means, errors and curve, ``.txt`` to read."""

import json
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from lightning_emseg.metrics.table import write_csv
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.report.text import score_text


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
        (folder / f"scores-{verb}.json").write_text(json.dumps(table.to_json(), indent=2) + "\n")
        if table.rows:
            write_csv(folder / f"scores-{verb}.csv", table)
        (folder / f"scores-{verb}.txt").write_text(f"{score_text(table)}\n")
        rank_zero_info(f"\n{score_text(table)}\n{folder / f'scores-{verb}.json'}")
