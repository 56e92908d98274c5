"""Steps, losses, whole-mosaic scores and checkpoints of all segmentation modules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from data_modules.batch import Batch
from data_modules.errors import UserError
from lightning_emseg.core import checkpoints
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.mosaics import (
    MosaicEvaluation,
    NonFinite,
    TileEvaluation,
    check_classes,
    check_planes,
    datasets_of,
)
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.inference.averaging import Views, average_views, orthogonal_mean, plane_by_plane
from lightning_emseg.inference.stitching import Blend, MosaicMaps, StitchedRows
from lightning_emseg.losses.cross_entropy import CrossEntropyLoss
from lightning_emseg.losses.focal_dice import FocalDiceLoss
from lightning_emseg.metrics.classes import MosaicMetric
from lightning_emseg.metrics.pixels import Counts, Criterion, level_of


def check_monitors(trainer: pl.Trainer) -> None:
    """Refuse what Lightning would refuse after the first epoch, which may be hours later.

    Raises:
        UserError: if a callback monitors ``val/…`` at epochs without a validation of whole mosaics.
    """
    every = getattr(getattr(trainer, "datamodule", None), "full_validation_every", None)
    # Lightning's connector puts them there, where type checkers do not see it.
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None) or ""
        # Only checkpoints can look at every n-th epoch alone.
        looks_at = getattr(callback, "_every_n_epochs", 1)
        if every is None or not monitor.startswith("val/") or (every and looks_at % every == 0):
            continue
        name = type(callback).__name__
        remedy = f"set data.full_validation_every to {looks_at}, or monitor val_tiles/f1, which every epoch has"
        if every and hasattr(callback, "_every_n_epochs"):
            remedy += f", or set the checkpoint's every_n_epochs to {every}"
        raise UserError(
            f"{name} monitors {monitor}, which is made every {every} epochs, and looks at it every {looks_at}: {remedy}"
            if every
            else f"{name} monitors {monitor}, but data.full_validation_every is 0, so that it is never made: {remedy}"
        )


def refuse_tile_monitors(trainer: pl.Trainer) -> None:
    """Refuse callbacks that wait for scores of a segmentation, where nothing is segmented.

    Raises:
        UserError: if a callback monitors ``val_tiles/…``, as the command line's checkpoints do by default.
    """
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None) or ""
        if monitor.startswith("val_tiles/"):
            kind = type(callback).__name__
            setting = "--checkpoint.monitor" if isinstance(callback, ModelCheckpoint) else f"the monitor of {kind}"
            raise UserError(f"nothing here makes {monitor}, which {kind} monitors: set {setting} to null")


def count_maps(classes: Sequence[str] | None) -> int:
    """Count the maps that a network returns for ``model.classes``."""
    return 1 if classes is None else len(classes)


class SegmentationMixin(pl.LightningModule):
    """Base of every architecture's module; a subclass builds the network and hands it over.

    Logged are ``train/loss``, ``val_tiles/*`` (cheap validation, pixels of all tiles pooled) and ``val/*`` or
    ``test/*`` (whole mosaics, mean over mosaics).

    Args:
        network: Network from ``float (B, C, *S)`` to logits ``(B, K, *S)``.
        in_channels: Channels that the network takes.
        stride: Multiple in px that the last two sides of an input must have.
        loss: Loss of logits and masks; focal + dice (Shi et al. 2021, eqs. 1–2) by default, cross-entropy of classes.
        optimizer: Optimiser of the weights that are trained; Adam with 1e-3 by default.
        lr_scheduler: Schedule of the learning rate, constant by default; one that waits for a score to rise watches
            ``val_tiles/f1``.
        lr_interval: Interval of the scheduler's steps, every ``epoch`` or every ``step``.
        grey_mean: Mean that is subtracted from the grey values 0–255.
        grey_std: Standard deviation that divides them; both travel in the checkpoint. The defaults map to −1 … 1 as
            U-RISC's published code.
        threshold_criterion: Criterion by which the threshold is chosen on validation data.
        blend: Weights of overlapping tiles.
        tta: Test-time augmentation of whole-mosaic sweeps: the mean over 4 ``flips`` or all 8 flips and rotations
            (``dihedral``), at as many times the cost.
        non_finite: Whether ``predict`` stops at a tile with NaN or infinity in the network's output, naming it, or
            marks its pixels as invalid and goes on; scores always stop.
        start_from: Checkpoint of the same architecture whose weights a second training stage starts from.
        compile: Whether torch compiles the network, which takes a minute or two and needs a compiler on the machine;
            checkpoints are the same with and without.
        metrics: Metrics of whole mosaics, as ``VRand`` and ``SurfaceDistances``; logged as ``val/<column>`` wherever
            whole mosaics are validated, and as ``test/<column>``. Of ``classes`` these are means; see also
            ``val/<class>_<column>``, of each but the background against all else.
        classes: Names of all classes to tell apart, the background first, as in ``data.classes``; none for a single
            foreground. Scores are then the means over all classes but the background, and the IoU of each.
        orthoplane: Whether a network of images predicts volumes along xy, xz and yz planes (the mean of the three),
            where tiles have more than one plane, and not along xy alone.

    Attributes:
        network_axes: 2 of networks that take images, which see volumes plane by plane, 3 of those that take volumes.
        classes: Names of all classes, the background first; empty for one foreground.
        scores: Table of the last whole-mosaic validation or test.
        keeps_maps: Whether whole maps stay on disk until ``validate`` or ``test`` ends; callbacks set it in ``setup``.
    """

    network_axes: ClassVar[int] = 2
    grey_mean: Tensor
    grey_std: Tensor
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
        super().__init__()
        if orthoplane and self.network_axes == 3:
            raise UserError("model.orthoplane is for networks of images: this one takes volumes")
        self.evaluator, self.orthoplane = Evaluator(classes), orthoplane
        self.classes = self.evaluator.classes
        # 20–30 % faster on CPUs and on GPUs with tensor cores; of volumes it made no difference.
        self.network = network if self.network_axes == 3 else network.to(memory_format=torch.channels_last)
        self.in_channels, self.stride = in_channels, stride
        self.register_buffer("grey_mean", torch.tensor(float(grey_mean)))
        self.register_buffer("grey_std", torch.tensor(float(grey_std)))
        self.save_hyperparameters(
            ignore=["network", "stride", "loss", "optimizer", "lr_scheduler", "compile", "metrics"]
        )
        self.compiled = compile
        if compile:
            self.network.compile()  # in place: `torch.compile(network)` would rename the keys of checkpoints
        self.loss = loss or (CrossEntropyLoss() if self.classes else FocalDiceLoss())
        self.make_optimizer, self.make_scheduler, self.lr_interval = optimizer, lr_scheduler, lr_interval
        self.threshold_criterion: Criterion = threshold_criterion
        self.blend: Blend = blend
        self.tta: Views = tta
        self.non_finite: NonFinite = non_finite
        self.start_from = start_from
        self.register_buffer("threshold", torch.tensor(0.5))
        self.threshold_source = "0.5, not chosen on data"
        self.scores: ScoreTable | None = None
        self._evaluations: list[TileEvaluation | MosaicEvaluation] = []
        self.metrics = metrics or []
        self.evaluator.check(self.metrics)
        self.keeps_maps = bool(metrics)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of grey images.

        Args:
            image: ``(B, C, *S)``, any type, grey levels 0–255.

        Returns:
            Logits ``(B, K, *S)``.

        Raises:
            UserError: if the channels or sides do not suit the network.
        """
        if image.shape[1] != self.in_channels:
            raise UserError(
                f"the images have {image.shape[1]} channel(s) but model.in_channels is {self.in_channels}: "
                f"set --model.in_channels {image.shape[1]}"
            )
        odd = [side for side in image.shape[-2:] if side % self.stride]
        if odd:
            nearest = max(self.stride, round(odd[0] / self.stride) * self.stride)
            raise UserError(
                f"{type(self).__name__} takes sides that are multiples of {self.stride} px, not {odd[0]}: "
                f"set data.patch_size and data.tile_size to e.g. {nearest}"
            )
        normalised = (image.float() - self.grey_mean) / self.grey_std
        by_planes = image.ndim == 5 and self.network_axes == 2
        logits: Tensor = plane_by_plane(self.network, normalised) if by_planes else self.network(normalised)
        return logits

    def probability(self, image: Tensor) -> Tensor:
        """Compute probabilities, 0–1, of grey images ``(B, C, *S)``; NaN where a logit is not finite.

        Returns:
            ``(B, *S)`` of the foreground, or ``(B, K, *S)`` of several classes. A volume of more than one plane is
            predicted in three directions where ``orthoplane`` says so.
        """
        if self.orthoplane and image.ndim == 5 and image.shape[2] > 1:
            return orthogonal_mean(lambda turned: self.probability_of(self(turned)), image)
        return self.probability_of(self(image))

    def probability_of(self, logits: Tensor) -> Tensor:
        """Turn logits ``(B, K, *S)`` into probabilities, 0–1; NaN where a logit is not finite.

        Returns:
            ``(B, *S)`` of the foreground, or ``(B, K, *S)`` of several classes, of which each pixel's sum to 1.
        """
        if self.classes:
            maps = logits.float()
            # Softmax makes NaN of infinity and of NaN by itself, but a certain 0 of −∞; 0 · ∞ is NaN.
            return torch.add(torch.softmax(maps, dim=1), maps.sum(dim=1, keepdim=True), alpha=0)
        foreground = logits[:, 0].float()
        # A logit that overflowed must not pass for certainty: 0 · ∞ is NaN.
        return torch.add(torch.sigmoid(foreground), foreground, alpha=0)

    def on_fit_start(self) -> None:
        """Load what training starts from; a resumed checkpoint brings its own weights (`setup` would not know yet)."""
        check_monitors(self.trainer)
        if not self.trainer.ckpt_path:
            self.initialise_weights()

    def on_train_start(self) -> None:
        """Refuse masks of other classes than the network's; the loaders are there only now."""
        check_classes(self.classes, datasets_of(self.trainer.train_dataloader))

    def initialise_weights(self) -> None:
        """Take over weights before training begins; architectures with pretrained parts extend this."""
        if self.start_from is not None:
            checkpoints.load_weights(self, Path(self.start_from))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of one batch, weighted so that the mean over ranks is that over all patches of the step."""
        loss: Tensor = self.loss(self(batch["image"]), batch["mask"]) * batch.get("weight", 1.0)
        size = batch.get("together", len(batch["image"]))
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make optimiser and scheduler as configured, over the parameters that are trained."""
        optimizer = self.make_optimizer([weight for weight in self.parameters() if weight.requires_grad])
        if self.make_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self.make_scheduler(optimizer),
                "interval": self.lr_interval,
                "monitor": "val_tiles/f1",
            },
        }

    def on_validation_epoch_start(self) -> None:
        """Begin counting."""
        self._begin(self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        """Begin counting."""
        self._begin(self.trainer.test_dataloaders)

    def _begin(self, loaders: object) -> None:
        maps = Path(self.trainer.default_root_dir) / "maps"
        kept = maps if self.keeps_maps and not self.trainer.sanity_checking else None
        datasets = datasets_of(loaders)
        check_classes(self.classes, datasets)
        check_planes(self.metrics, datasets)
        self._evaluations = [
            TileEvaluation(data, self.evaluator, self.device)
            if data.sweep is None
            else MosaicEvaluation(data, self.evaluator, self.blend, self.device, maps=kept)
            for data in datasets
        ]

    def on_predict_epoch_start(self) -> None:
        """Begin stitching."""
        (data,) = datasets_of(self.trainer.predict_dataloaders)
        self._evaluations = [
            MosaicEvaluation(data, self.evaluator, self.blend, self.device, score=False, non_finite=self.non_finite)
        ]

    @property
    def _whole(self) -> MosaicEvaluation | None:
        """Evaluation of whole mosaics, if there is one."""
        return next((each for each in self._evaluations if isinstance(each, MosaicEvaluation)), None)

    def whole_maps(self) -> MosaicMaps | None:
        """Whole probability maps of the evaluation that is ending, if they are kept; none of several classes."""
        return None if self.classes or self._whole is None else self._whole.maps

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Predict tiles; count them, or blend them into rows.

        Returns:
            Of tiles ``uint8 (B, *tile)``, quantised probabilities or the most probable classes; of a sweep the
            finished :class:`StitchedRows`.
        """
        evaluation = self._evaluations[dataloader_idx]
        if isinstance(evaluation, MosaicEvaluation):
            return self._sweep_step(evaluation, batch)
        # A rank that has no tile gets one batch without any.
        if not len(batch["image"]):
            return batch["mask"]
        logits = self(batch["image"])
        return evaluation.update(batch, self.probability_of(logits), self.loss(logits, batch["mask"]))

    def on_validation_epoch_end(self) -> None:
        """Choose the threshold and log the scores; the whole-mosaic ones win where both were made."""
        tiles = next((each for each in self._evaluations if isinstance(each, TileEvaluation)), None)
        whole = self._whole
        if tiles is not None:
            counts = tiles.counts()
            self._choose_threshold(counts, "tiles")
            values = self.evaluator.tile_scores(counts.sum(axis=0), self._level, tiles.loss())
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
        level = self.evaluator.best_level(counts, self.threshold_criterion)
        if level is not None and not self.trainer.sanity_checking:
            self.threshold.fill_(level / 255)
            self.threshold_source = f"{self.threshold_criterion} on validation {source}, epoch {self.current_epoch}"

    def _publish(self, verb: str, table: ScoreTable) -> None:
        """Keep the table for callbacks and log its means."""
        self.scores = table
        self.log_dict(self.evaluator.mosaic_scores(verb, table, self.metrics), add_dataloader_idx=False)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Predict one run of tiles; returns the list of :class:`StitchedRows` that it finishes."""
        evaluation = self._evaluations[0]
        assert isinstance(evaluation, MosaicEvaluation)
        return self._sweep_step(evaluation, batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        """Predict one run of tiles; returns the list of :class:`StitchedRows` that it finishes."""
        return self.test_step(batch, batch_idx)

    def _sweep_step(self, evaluation: MosaicEvaluation, batch: Batch) -> list[StitchedRows]:
        # A rank that has no rows of any mosaic gets one batch without tiles.
        if not len(batch["image"]):
            return []
        return evaluation.update(batch, average_views(self.probability, batch["image"], self.tta))

    def on_test_epoch_end(self) -> None:
        """Score at the checkpoint's threshold."""
        assert self._whole is not None
        self._publish("test", self._whole.table(self._level, self.threshold_source, self.metrics))

    def on_validation_end(self) -> None:
        """Delete the maps."""
        if self._whole is not None:
            self._whole.remove_maps(self.trainer.is_global_zero)

    def on_test_end(self) -> None:
        """Delete the maps."""
        if self._whole is not None:
            self._whole.remove_maps(self.trainer.is_global_zero)

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
