"""Writing predicted mosaics as an OME-Zarr store, and as pictures where wanted."""

import json
from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from data_modules.errors import UserError
from data_modules.geometry import rows_left
from data_modules.store import Rows
from lightning_emseg import __version__
from lightning_emseg.core import checkpoints
from lightning_emseg.core.distributed import from_first_rank
from lightning_emseg.evaluation.mosaics import EvaluationData
from lightning_emseg.inference.prediction_store import Format, Polarity, PredictionStore, export_masks
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.modules.mixin import SegmentationMixin


class PredictionWriter(pl.Callback):
    """Writes what ``predict`` produces: per sample the probability (``uint8``) as image and the mask as label.

    Of several classes the mask has the position of the most probable one, with their names in the label's attributes,
    and the probability is that of any class but the background.

    The store has the layout of the data stores, so it can be inspected, verified and viewed like them. A run that was
    killed is continued by the same command, from the last complete row of shards of every rank.

    Args:
        out: Path of the store; needed by ``predict`` and by nothing else.
        overwrite: Whether samples of an existing store are replaced.
        export: Also write the masks as ``png`` or ``tiff`` into the folder ``<out>-<export>/<split>/``.
        polarity: Whether foreground is ``dark`` (0 on 255, as U-RISC and ISBI 2012 want it) or ``bright`` there; masks
            of classes keep their values.
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
        self._store: PredictionStore | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Ask the data module to ask back, once the weights are loaded, which rows need no prediction.

        Raises:
            UserError: if ``predict`` has no ``out`` or no data module.
        """
        if stage != "predict":
            return
        if self.out is None:
            raise UserError("predict writes a store: pass --writer.out STORE.zarr")
        if trainer.datamodule is None:  # type: ignore[attr-defined]
            raise UserError("predictions are written of a data module's mosaics: pass datamodule=, not dataloaders=")
        assert isinstance(pl_module, SegmentationMixin)
        # Not in `on_predict_start`: a rank that has nothing to predict never gets there, and the others would wait.
        trainer.datamodule.finished = lambda data: self._begin(trainer, pl_module, data)  # type: ignore[attr-defined]

    def _begin(self, trainer: pl.Trainer, module: SegmentationMixin, data: EvaluationData) -> Sequence[Sequence[Rows]]:
        """Open the store on every rank; returns the rows of each mosaic that are on disk already."""
        assert data.sweep is not None
        self._level = level_of(float(module.threshold))
        provenance = self._provenance(trainer, module, data)
        classes = module.classes
        store = PredictionStore(Path(str(self.out)), data.mosaics, data.label, provenance, self.overwrite, classes)
        # One rank looks and tells the others, who would otherwise see what it has begun meanwhile.
        earlier = from_first_rank(store.survey)
        done = [found.rows if found else () for found in earlier]
        if all(found and found.state == "finished" for found in earlier):
            rank_zero_info(f"the predictions in {self.out} are complete: nothing is left to do")
        elif any(done):
            rank_zero_info(f"continuing the unfinished predictions in {self.out}")
        mine: dict[int, list[Rows]] = defaultdict(list)
        for span in rows_left(data.sweep.spans, done):
            mine[span.mosaic].append((span.start, span.stop))
        self._store = store
        if trainer.is_global_zero:
            store.begin("owner", earlier, mine)
        trainer.strategy.barrier("prediction store")
        if not trainer.is_global_zero:
            store.begin("guest", earlier, mine)
        return done

    def _provenance(self, trainer: pl.Trainer, module: SegmentationMixin, data: EvaluationData) -> list[dict[str, Any]]:
        """Everything that the pixels of each mosaic's prediction depend on."""
        assert data.sweep is not None
        path = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else None
        # A run that stopped at a tile may go on and mark it.
        hyperparameters = {key: value for key, value in module.hparams.items() if key != "non_finite"}
        if "_class_path" in hyperparameters:
            # A class has a short name, the path of its package and that of its module, which all mean the same.
            hyperparameters["_class_path"] = f"{type(module).__module__}.{type(module).__qualname__}"
        common = {
            "checkpoint": path and path.name,
            "checkpoint_sha256": path and checkpoints.file_hash(path),
            "weights_sha256": checkpoints.weights_hash(module),
            "architecture": type(module).__name__,
            "hyperparameters": hyperparameters,
            "threshold": self._level / 255,
            "threshold_source": module.threshold_source,
            "blend": module.blend,
            "batch_size": data.sweep.batch_size,
            "precision": trainer.precision,
            "compiled": module.compiled,
            "device": module.device.type,
            "versions": {
                "lightning-emseg": __version__,
                **{name: metadata.version(name) for name in ("torch", "pytorch-lightning")},
            },
        }
        records = [
            {
                **common,
                "source": mosaic.image.path,
                "source_state": mosaic.image.stamp,
                "tile": grid.tile,
                "overlap": grid.overlap,
            }
            for mosaic, grid in zip(data.mosaics, data.sweep.grids, strict=True)
        ]
        return [json.loads(json.dumps(record, default=str)) for record in records]

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hand over the rows that the batch has finished."""
        assert self._store is not None
        finished: Sequence[StitchedRows] = outputs
        for rows in finished:
            self._store.write(rows, self._level)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finish the samples; those of a run cut short are kept for the next one, and said to be.

        This is the one hook after a prediction that ranks without any rows reach too.
        """
        store, self._store = self._store, None
        if store is None:
            return
        store.wait()
        ready = trainer.strategy.reduce_boolean_decision(store.complete, all=True)
        if trainer.is_global_zero:
            if ready:
                store.finish()
                if self.export is not None:
                    target = Path(f"{self.out}-{self.export}")
                    folder = export_masks(store.targets, target, self.export, self.polarity)
                    rank_zero_info(f"masks as {self.export}: {folder}")
                rank_zero_info(f"predictions: {self.out}")
            else:
                self._leave(store, "was cut short (fast_dev_run or limit_predict_batches)")
        trainer.strategy.barrier("prediction store finished")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep what is written, for the next run."""
        store, self._store = self._store, None
        if store is not None and trainer.is_global_zero:
            self._leave(store, "was interrupted")

    def _leave(self, store: PredictionStore, why: str) -> None:
        if store.keep_for_later():
            rank_zero_warn(f"the prediction {why}: the same command continues what is hidden in {self.out}")
        else:
            rank_zero_warn(f"the prediction {why}: nothing is in {self.out}")
