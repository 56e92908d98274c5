"""Writing predicted mosaics as an OME-Zarr store, and as pictures where wanted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.store import ArrayWriter, LabelInfo, MosaicView, SampleWriter
from lightning_emseg import checkpoints
from lightning_emseg.inference.export import Format, Polarity, export_masks
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.metrics.pixel import level_of
from lightning_emseg.modules.evaluation import datasets_of
from lightning_emseg.modules.mixin import SegmentationMixin


@dataclass
class _Output:
    sample: SampleWriter
    mask: ArrayWriter


class PredictionWriter(pl.Callback):
    """Writes what ``predict`` produces: per sample the probability (``uint8``) as image and the mask as label.

    The store has the layout of the data stores, so it can be inspected, verified and viewed like them.

    Args:
        out: Path of the store; needed by ``predict`` and by nothing else.
        overwrite: Whether samples of an existing store are replaced.
        export: Also write the masks as ``png`` or ``tiff`` into the folder ``<out>-<export>/<split>/``.
        polarity: Whether foreground is ``dark`` (0 on 255, as U-RISC and ISBI 2012 want it) or ``bright`` there.
    """

    def __init__(
        self,
        out: str | None = None,
        overwrite: bool = False,
        export: Format | None = None,
        polarity: Polarity = "dark",
    ) -> None:
        self.out, self.overwrite, self.export, self.polarity = out, overwrite, export, polarity
        self._level = 128
        self._outputs: dict[int, _Output] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse to predict into nothing.

        Raises:
            UserError: if ``predict`` has no ``out``.
        """
        if stage == "predict" and self.out is None:
            raise UserError("predict writes a store: pass --writer.out STORE.zarr")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rank 0 makes the arrays, then every rank opens those that it has rows of."""
        assert isinstance(pl_module, SegmentationMixin)
        (data,) = datasets_of(trainer.predict_dataloaders)
        assert data.sweep is not None
        self._level = level_of(float(pl_module.threshold))
        provenance = self._provenance(trainer, pl_module, data.sweep.grids[0].overlap)
        rows = {span.mosaic: (span.start, span.stop) for span in data.sweep.spans}
        for first in (True, False):
            if trainer.is_global_zero == first:
                for index, mosaic in enumerate(data.mosaics):
                    if first or index in rows:
                        span = rows.get(index, (0, 0))
                        self._outputs[index] = self._begin(mosaic, data.label, provenance, span, attach=not first)
            trainer.strategy.barrier("prediction store")

    def _begin(
        self, mosaic: MosaicView, label: str, provenance: dict[str, Any], rows: tuple[int, int], attach: bool
    ) -> _Output:
        split, name = mosaic.key.split("/")
        sample = SampleWriter(
            str(self.out), split, name, mosaic.shape, mosaic.pixel_size_nm, provenance, self.overwrite, rows, attach
        )
        return _Output(sample, sample.add_label(label, LabelInfo("binary"), provenance=provenance))

    def _provenance(self, trainer: pl.Trainer, module: SegmentationMixin, overlap: float) -> dict[str, Any]:
        path = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else None
        hyperparameters = json.loads(json.dumps(dict(module.hparams), default=str))
        return {
            "checkpoint": path and path.name,
            "checkpoint_sha256": path and checkpoints.file_hash(path),
            "architecture": type(module).__name__,
            "hyperparameters": hyperparameters,
            "threshold": self._level / 255,
            "threshold_source": module.threshold_source,
            "blend": module.blend,
            "overlap": overlap,
            "versions": {name: metadata.version(name) for name in ("lightning-emseg", "torch", "pytorch-lightning")},
        }

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows that the batch has finished."""
        finished: Sequence[StitchedRows] = outputs
        for rows in finished:
            probability = rows.probability.numpy()
            self._outputs[rows.mosaic].sample.image.write(probability)
            self._outputs[rows.mosaic].mask.write((probability >= self._level).astype(np.uint8))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the samples; those of a run cut short are dropped, and said to be."""
        ready = trainer.strategy.reduce_boolean_decision(
            all(output.sample.complete for output in self._outputs.values()), all=True
        )
        if trainer.is_global_zero:
            for output in tqdm(self._outputs.values(), desc="finish the store", unit="mosaic", disable=None):
                if ready:
                    output.sample.close()
                else:
                    output.sample.discard()
            if ready:
                self._export()
                rank_zero_info(f"predictions: {self.out}")
            else:
                rank_zero_warn(
                    f"the run was cut short (fast_dev_run or limit_predict_batches): nothing is in {self.out}"
                )
        trainer.strategy.barrier("prediction store finished")
        self._outputs = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave no half sample behind."""
        if trainer.is_global_zero:
            for output in self._outputs.values():
                output.sample.discard()

    def _export(self) -> None:
        if self.export is not None:
            masks = [output.sample.target for output in self._outputs.values()]
            folder = export_masks(masks, Path(f"{self.out}-{self.export}"), self.export, self.polarity)
            rank_zero_info(f"masks as {self.export}: {folder}")
