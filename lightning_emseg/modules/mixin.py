"""What all segmentation modules share: steps, losses, whole-mosaic scores, checkpoints."""

from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from data_modules.batch import Batch
from lightning_emseg import checkpoints
from lightning_emseg.inference.blending import Blend
from lightning_emseg.inference.mosaic_maps import MosaicMaps
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.inference.symmetry import Views, averaged
from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.pixel import level_of
from lightning_emseg.metrics.table import ScoreTable
from lightning_emseg.metrics.threshold import Criterion
from lightning_emseg.modules.evaluation import MosaicScores, NonFinite, check_classes, datasets_of
from lightning_emseg.modules.evaluations import Evaluations, begun, predicted
from lightning_emseg.modules.grey_input import GreyInput
from lightning_emseg.modules.logged_scores import mosaic_scores
from lightning_emseg.modules.monitors import check_monitors
from lightning_emseg.modules.optimisation import configured


class SegmentationMixin(GreyInput, pl.LightningModule):
    """Base of every architecture's module; a subclass builds the network and hands it over.

    Logged are ``train/loss``, ``val_tiles/*`` (cheap validation, pixels of all tiles pooled) and ``val/*`` or
    ``test/*`` (whole mosaics, mean over mosaics).

    Args:
        network: Maps ``float (B, C, *S)`` to logits ``(B, K, *S)``.
        in_channels: Channels that the network takes.
        stride: Multiple that the sides of an input must have.
        loss: Of logits and masks; focal + dice (Shi et al. 2021, eqs. 1–2) by default, cross-entropy of classes.
        optimizer: Adam with 1e-3 by default.
        lr_scheduler: None by default.
        lr_interval: Whether the scheduler steps after every ``epoch`` or every ``step``.
        grey_mean: Subtracted from the grey values 0–255.
        grey_std: Divides them; both travel in the checkpoint. The defaults map to −1 … 1 as U-RISC's published code.
        threshold_criterion: How the threshold is chosen on validation data.
        blend: Weights of overlapping tiles.
        tta: Test-time augmentation of whole-mosaic sweeps: the mean over 4 ``flips`` or all 8 flips and rotations
            (``dihedral``), at as many times the cost.
        non_finite: Whether ``predict`` stops at a tile with NaN or infinity in the network's output, naming it, or
            marks its pixels as invalid and goes on; scores always stop.
        start_from: Checkpoint of the same architecture whose weights a second training stage starts from.
        compile: Whether torch compiles the network, which takes a minute or two and needs a compiler on the machine;
            checkpoints are the same with and without.
        metrics: Of whole mosaics, as ``VRand`` and ``SurfaceDistances``; logged as ``val/<column>`` wherever whole
            mosaics are validated, and as ``test/<column>``. Of ``classes`` these are means; see also
            ``val/<class>_<column>``, of each but the background against all else.
        classes: Names of all classes to tell apart, the background first, as in ``data.classes``; none for a single
            foreground. Scores are then the means over all classes but the background, and the IoU of each.
        orthoplane: Whether a network of images predicts volumes along xy, xz and yz planes (the mean of the three),
            where tiles have more than one plane, and not along xy alone.

    Attributes:
        keeps_maps: Whether whole maps stay on disk until ``validate`` or ``test`` ends; callbacks set it in ``setup``.
    """

    threshold: Tensor

    def __init__(
        self,
        network: nn.Module,
        in_channels: int = 1,
        stride: int = 1,
        loss: nn.Module | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        grey_mean: float = 127.5,
        grey_std: float = 127.5,
        threshold_criterion: Criterion = "mean_f1",
        blend: Blend = "constant",
        tta: Views = "none",
        non_finite: NonFinite = "stop",
        start_from: str | None = None,
        compile: bool = False,
        metrics: list[MosaicMetric] | None = None,
        classes: list[str] | None = None,
        orthoplane: bool = False,
    ) -> None:
        super().__init__(network, in_channels, stride, grey_mean, grey_std, classes, orthoplane)
        self.save_hyperparameters(
            ignore=["network", "stride", "loss", "optimizer", "lr_scheduler", "compile", "metrics"]
        )
        self.compiled = compile
        if compile:
            self.network.compile()  # in place: `torch.compile(network)` would rename the keys of checkpoints
        self.loss = loss or self.outputs.default_loss()
        self.make_optimizer, self.make_scheduler, self.lr_interval = optimizer, lr_scheduler, lr_interval
        self.threshold_criterion: Criterion = threshold_criterion
        self.blend: Blend = blend
        self.tta: Views = tta
        self.non_finite: NonFinite = non_finite
        self.start_from = start_from
        self.register_buffer("threshold", torch.tensor(0.5))
        self.threshold_source = "0.5, not chosen on data"
        self.scores: ScoreTable | None = None
        """Of the last whole-mosaic validation or test."""
        self._evaluations = Evaluations()
        self.metrics = metrics or []
        self.outputs.check_metrics(self.metrics)
        self.keeps_maps = bool(metrics)

    def on_fit_start(self) -> None:
        """Load what training starts from; a resumed checkpoint brings its own weights (`setup` would not know yet)."""
        check_monitors(self.trainer)
        if not self.trainer.ckpt_path:
            self.initialise_weights()

    def on_train_start(self) -> None:
        """Refuse masks of other classes than the network's; the loaders are there only now."""
        check_classes(self.outputs.classes, datasets_of(self.trainer.train_dataloader))

    def initialise_weights(self) -> None:
        """Take over weights before training begins; architectures with pretrained parts extend this."""
        if self.start_from is not None:
            checkpoints.load_weights(self, Path(self.start_from))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of patches, weighted so that the mean over ranks is that over all patches of the step."""
        loss: Tensor = self.loss(self(batch["image"]), batch["mask"]) * batch.get("weight", 1.0)
        size = batch.get("together", len(batch["image"]))
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and scheduler as configured, over the parameters that are trained."""
        return configured(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_interval)

    def on_validation_epoch_start(self) -> None:
        """Begin counting."""
        self._begin(self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        """Begin counting."""
        self._begin(self.trainer.test_dataloaders)

    def _begin(self, loaders: object) -> None:
        maps = Path(self.trainer.default_root_dir) / "maps"
        kept = maps if self.keeps_maps and not self.trainer.sanity_checking else None
        self._evaluations = begun(datasets_of(loaders), self.outputs, self.blend, self.device, kept)

    def on_predict_epoch_start(self) -> None:
        """Begin stitching."""
        (data,) = datasets_of(self.trainer.predict_dataloaders)
        self._evaluations = predicted(data, self.outputs, self.blend, self.device, self.non_finite)

    def whole_maps(self) -> MosaicMaps | None:
        """Whole probability maps of the evaluation that is ending, if they are kept; none of several classes."""
        return None if self.outputs.classes else self._evaluations.maps

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Predict tiles; count them, or blend them into rows.

        Returns:
            Of tiles ``uint8 (B, *tile)``, quantised probabilities or the most probable classes; of a sweep the
            finished :class:`StitchedRows`.
        """
        evaluation = self._evaluations[dataloader_idx]
        if isinstance(evaluation, MosaicScores):
            return self._sweep_step(evaluation, batch)
        # A rank that has no tile gets one batch without any.
        if not len(batch["image"]):
            return batch["mask"]
        logits = self(batch["image"])
        return evaluation.update(batch, self.outputs.probability(logits), self.loss(logits, batch["mask"]))

    def on_validation_epoch_end(self) -> None:
        """Choose the threshold and log the scores; the whole-mosaic ones win where both were made."""
        tiles, whole = self._evaluations.tiles, self._evaluations.whole
        if tiles is not None:
            counts = tiles.counts()
            self._choose_threshold(counts, "tiles")
            values = self.outputs.tile_scores(counts.sum(axis=0), self._level, tiles.loss())
            self.log_dict(values, add_dataloader_idx=False)
            self.log("f1", values["val_tiles/f1"], prog_bar=True, logger=False)
        self.scores = None
        if whole is not None and not self.trainer.sanity_checking:
            keys, counts, partial = whole.counts()
            if keys:
                self._choose_threshold(counts, "whole mosaics")
            # Epochs of a fit without a sweep have seen nothing, and have nothing to say.
            if keys or any(seen for seen, _ in partial.values()) or self.trainer.state.fn == TrainerFn.VALIDATING:
                self._publish("val", whole.table(self._level, self.threshold_source, self.metrics))

    @property
    def _level(self) -> int:
        return level_of(float(self.threshold))

    def _choose_threshold(self, counts: Counts, source: str) -> None:
        level = self.outputs.choose_level(counts, self.threshold_criterion)
        if level is not None and not self.trainer.sanity_checking:
            self.threshold.fill_(level / 255)
            self.threshold_source = f"{self.threshold_criterion} on validation {source}, epoch {self.current_epoch}"

    def _publish(self, verb: str, table: ScoreTable) -> None:
        """Keep the table for callbacks and log its means."""
        self.scores = table
        self.log_dict(mosaic_scores(verb, table, self.outputs.logged(self.metrics)), add_dataloader_idx=False)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Predict one run of tiles; returns the list of :class:`StitchedRows` that it finishes."""
        return self._sweep_step(self._evaluations.mosaics, batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        """Predict one run of tiles; returns the list of :class:`StitchedRows` that it finishes."""
        return self.test_step(batch, batch_idx)

    def _sweep_step(self, evaluation: MosaicScores, batch: Batch) -> list[StitchedRows]:
        # A rank that has no rows of any mosaic gets one batch without tiles.
        if not len(batch["image"]):
            return []
        return evaluation.update(batch, averaged(self.probability, batch["image"], self.tta))

    def on_test_epoch_end(self) -> None:
        """Score at the checkpoint's threshold."""
        self._publish("test", self._evaluations.mosaics.table(self._level, self.threshold_source, self.metrics))

    def on_validation_end(self) -> None:
        """Delete the maps."""
        self._evaluations.remove_maps(self.trainer.is_global_zero)

    def on_test_end(self) -> None:
        """Delete the maps."""
        self._evaluations.remove_maps(self.trainer.is_global_zero)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what a reader of the checkpoint wants to know."""
        checkpoint["emseg"] = {"architecture": type(self).__name__, "threshold_source": self.threshold_source}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before torch lists every key of it.

        Raises:
            UserError: naming both architectures and the first weights that differ.
        """
        checkpoints.check_matches(self, checkpoint)
        self.threshold_source = checkpoint.get("emseg", {}).get("threshold_source", self.threshold_source)
