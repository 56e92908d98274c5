"""MoCo v2: an encoder learns from micrographs without labels."""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from data_modules.errors import UserError
from lightning_emseg.core import checkpoints
from lightning_emseg.core.distributed import copy_from_first_rank, gather_rows, own_rows, share_permutation
from lightning_emseg.losses.info_nce import contrast_logits, info_nce_loss, share_told_apart
from lightning_emseg.modules.mixin import refuse_tile_monitors
from lightning_emseg.networks.moco import Embedding, KeyQueue, check_divides

_PAPERS_SGD = partial(torch.optim.SGD, lr=0.015, momentum=0.9, weight_decay=1e-4)
_PAPERS_STEPS = partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[120, 160])


class MoCo(pl.LightningModule):
    """Momentum contrast (He et al. 2020) with MoCo v2's head, as CEM500K was used for (Conrad and Narayan 2021).

    Two views of each tile are encoded, one by the encoder that is trained, the other by its slowly moving average, and
    are to resemble each other more than the views of the tiles before. Keys are gathered over all ranks, so that all
    hold one queue, and shuffled over them before they are encoded, so that batch norms cannot tell which query belongs
    to which key. Logged are ``train/loss`` and ``train/told_apart``, the share of tiles that are recognised among the
    whole queue.

    Args:
        encoder: Name in timm; an export starts a :class:`~lightning_emseg.modules.unet.UNet` whose encoder
            has the same name, with ``tu-`` before all but those of ResNets.
        dim: Length of an embedding.
        queue_size: Number of keys; the batch over all processes must divide it.
        momentum: Share that the average keeps at each step.
        temperature: Temperature of the contrast.
        norm_groups: Parts of a process's batch that batch norms see one at a time, as if each were of a process of its
            own. With one part on one process, queries tell the keys of their own batch by its statistics, and nothing
            else is learned (He et al. 2020, section 3.3): one GPU with a batch of 128 in 4 parts does what 4 GPUs do.
        optimizer: SGD with 0.015, momentum 0.9 and weight decay 1e-4 by default, as in the paper.
        lr_scheduler: Schedule by epochs; a tenth after 120 and after 160 of them by default, as in the paper.
        grey_mean: Mean that is subtracted from grey values 0–255; that of the training tiles by default.
        grey_std: Standard deviation that divides them; that of the training tiles by default. Both travel
            in checkpoint and export.

    Raises:
        UserError: for an unknown encoder, or a value out of its range.
    """

    grey_mean: Tensor
    grey_std: Tensor

    def __init__(
        self,
        encoder: str = "resnet50",
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        norm_groups: int = 1,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        grey_mean: float | None = None,
        grey_std: float | None = None,
    ) -> None:
        super().__init__()
        for name, count in (("dim", dim), ("queue_size", queue_size), ("norm_groups", norm_groups)):
            if count < 1:
                raise UserError(f"model.{name} must be at least 1, but is {count}")
        if not 0 <= momentum <= 1:
            raise UserError(f"model.momentum must lie in 0–1, but is {momentum}")
        if not temperature > 0:
            raise UserError(f"model.temperature must be above 0, but is {temperature}")
        if grey_mean is not None and not 0 <= grey_mean <= 255:
            raise UserError(f"model.grey_mean must lie in 0–255, but is {grey_mean}")
        if grey_std is not None and not 0 < grey_std <= 255:
            raise UserError(f"model.grey_std must be above 0 and at most 255, but is {grey_std}")
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.momentum, self.temperature, self.norm_groups = momentum, temperature, norm_groups
        self.make_optimizer, self.make_scheduler = optimizer or _PAPERS_SGD, lr_scheduler or _PAPERS_STEPS
        self.encoder_q = Embedding(encoder, dim)
        self.encoder_k = deepcopy(self.encoder_q).requires_grad_(False)
        self.queue = KeyQueue(dim, queue_size)
        # NaN until the data module is asked, so that nothing is ever normalised by numbers that nobody chose.
        self.register_buffer("grey_mean", torch.tensor(torch.nan if grey_mean is None else grey_mean))
        self.register_buffer("grey_std", torch.tensor(torch.nan if grey_std is None else grey_std))
        # All ranks write the same into it; DDP would send all of it around before every step.
        self._ddp_params_and_buffers_to_ignore = [f"queue.{name}" for name, _ in self.queue.named_buffers()]

    def setup(self, stage: str) -> None:
        """Refuse a batch that queue or groups cannot take, before anything is read.

        Raises:
            UserError: naming batch and queue, or batch and groups.
        """
        batch = getattr(getattr(self.trainer, "datamodule", None), "batch_size", None)
        if stage == "fit" and batch is not None:
            check_divides(batch * self.trainer.world_size, self.queue.size)
            if batch % self.norm_groups:
                raise UserError(
                    f"a batch of {batch} cannot be normalised in {self.norm_groups} equal groups: set "
                    "--model.norm_groups to a divisor of data.batch_size"
                )

    def on_fit_start(self) -> None:
        """Ask the data for its grey values, unless they were given or a checkpoint has brought them.

        Raises:
            UserError: if they are not known, or a checkpoint waits for scores of a segmentation.
        """
        refuse_tile_monitors(self.trainer)
        if bool(torch.isfinite(self.grey_mean + self.grey_std)):
            return
        measure = getattr(getattr(self.trainer, "datamodule", None), "norms", None)
        if measure is None:
            raise UserError("the data does not know its grey values: give --model.grey_mean and --model.grey_std")
        mean, std = measure()
        for buffer, value in ((self.grey_mean, mean), (self.grey_std, std)):
            if not torch.isfinite(buffer):
                buffer.fill_(value)

    def on_train_start(self) -> None:
        """Begin with one queue on all ranks, and warn of what would be learned without looking at tissue."""
        for buffer in self.queue.buffers():
            copy_from_first_rank(buffer)
        loader: Any = self.trainer.train_dataloader
        images = len(loader) * (getattr(loader, "batch_size", None) or 0) * self.trainer.world_size
        has_batch_norms = any(isinstance(part, _BatchNorm) for part in self.encoder_q.modules())
        if has_batch_norms and self.trainer.world_size * self.norm_groups == 1:
            rank_zero_warn(
                "on one process, batch norms let queries tell the keys of their own batch from all others, and "
                "features stay poor: set --model.norm_groups, e.g. to 4"
            )
        if 0 < images <= self.queue.size:
            rank_zero_warn(
                f"the queue of {self.queue.size} keys holds all {images} images of an epoch: each is contrasted with "
                f"itself as it was an epoch ago; lower --model.queue_size, e.g. to a quarter of them"
            )

    def forward(self, image: Tensor) -> Tensor:
        """Pooled features ``float32 (B, F)``, before the head, of grey images ``(B, 1, Y, X)`` of levels 0–255."""
        features: Tensor = self.encoder_q.backbone(self._normalised(image))
        return features.float()

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Contrast of one batch.

        Args:
            batch: Two views, ``image`` and ``second``, ``(B, 1, Y, X)`` in grey levels 0–255.
            batch_idx: Within the epoch.
        """
        # Once a step: the encoder does not move between the batches whose gradients are added up.
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.follow()
        query = self._encoded(self.encoder_q, batch["image"])
        key = self.keys_of(batch["second"])
        # A copy, as the queue goes on before gradients are taken.
        logits = contrast_logits(query, key, self.queue.keys.clone(), self.temperature)
        self.queue.enqueue(gather_rows(key))
        loss = info_nce_loss(logits)
        size = len(query)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        told_apart = share_told_apart(logits.detach())
        self.log("train/told_apart", told_apart, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    @torch.no_grad()
    def keys_of(self, image: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` by the moving average, of a batch that is shuffled over ranks and groups meanwhile."""
        if self.trainer.world_size * self.norm_groups == 1:
            return self._encoded(self.encoder_k, image)
        everything = gather_rows(image)
        order = share_permutation(len(everything), everything.device)
        keys = self._encoded(self.encoder_k, own_rows(everything[order]))
        return own_rows(gather_rows(keys)[order.argsort()])

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average by one step: ``θ_k ← m θ_k + (1 − m) θ_q`` (He et al. 2020, eq. 2).

        Statistics of batch norms are each encoder's own, as in MoCo's published code.
        """
        pairs = zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, 1 - self.momentum)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser of the trained encoder, and schedule by epochs."""
        optimizer = self.make_optimizer(self.encoder_q.parameters())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make_scheduler(optimizer)}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what a reader of the checkpoint wants to know."""
        checkpoint["emseg"] = {"architecture": type(self).__name__, "encoder": self.hparams["encoder"]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network.

        Raises:
            UserError: naming the first weights that differ.
        """
        checkpoints.check_matches(self, checkpoint)

    def _encoded(self, encoder: Embedding, image: Tensor) -> Tensor:
        return torch.cat([encoder(self._normalised(part)) for part in image.chunk(self.norm_groups)])

    def _normalised(self, image: Tensor) -> Tensor:
        return (image.to(torch.promote_types(self.grey_mean.dtype, torch.float32)) - self.grey_mean) / self.grey_std
