"""The network that tells informative tiles from others."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from data_modules.errors import UserError
from lightning_emseg.core import checkpoints
from lightning_emseg.core.distributed import from_all_ranks
from lightning_emseg.modules.mixin import refuse_tile_monitors

_GREY_MEAN, _GREY_STD = 0.449 * 255, 0.226 * 255
"""ImageNet's, the means of its three channels."""
_TRAINED = ("layer4", "fc")
_FORWARD = 128
"""Tiles in one forward pass of :meth:`TileClassifier.scores`."""


class TileClassifier(pl.LightningModule):
    """ResNet-34 with one output, of which the last stage and the head are trained (Conrad and Narayan 2021).

    The first convolution of the pretrained network is summed over its three channels, so that a grey tile gives what it
    would give repeated three times, but for ImageNet's channels being normalised by one mean and deviation. Stages that
    are not trained keep the statistics of their batch norms too. Logged are ``train/loss`` (binary cross entropy) and,
    after every epoch, ``val/auroc`` on the held-out labels, which the checkpoint keeps.

    Args:
        encoder: ResNet of timm.
        weights: Timm's tag of the pretrained weights that training begins with, fetched then: ``tv_in1k`` are
            torchvision's of ImageNet. ``null`` for random ones, which leaves the untrained stages random.
        optimizer: Adam with 1e-3 by default, as in the paper.

    Attributes:
        auroc: Area under the receiver operating characteristic on the held-out labels after the last epoch, if any.
        scored_on: Number of those labels.

    Raises:
        UserError: if timm has no such ResNet.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        weights: str | None = "tv_in1k",
        optimizer: OptimizerCallable | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self.encoder, self.weights = encoder, weights
        self.make_optimizer = optimizer or partial(torch.optim.Adam, lr=1e-3)
        # 20–30 % faster on CPUs and on GPUs with tensor cores.
        self.network: nn.Module = _resnet(encoder, pretrained=False).to(memory_format=torch.channels_last)
        for name, part in self.network.named_children():
            part.requires_grad_(name in _TRAINED)
        self.auroc: float | None = None
        self.scored_on = 0

    @classmethod
    def from_checkpoint(cls, path: Path) -> Self:
        """A trained classifier in evaluation mode.

        Raises:
            UserError: if the file cannot be read or is of another module.
        """
        content = checkpoints.read(path)
        about = content.get("emseg", {})
        if about.get("architecture") != cls.__name__:
            raise UserError(
                f"{path} is of {about.get('architecture', 'an unknown module')}: give a checkpoint of `lightning fit` "
                "with the module TileClassifier (experiments/cem500k/filter.yaml)"
            )
        module = cls(encoder=about["encoder"], weights=None)
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
        return module.eval()

    def train(self, mode: bool = True) -> Self:
        """As always, but stages that are not trained stay in evaluation mode."""
        super().train(mode)
        for name, part in self.network.named_children():
            part.train(mode and name in _TRAINED)
        return self

    def on_fit_start(self) -> None:
        """Fetch the weights that training begins with; a resumed checkpoint brings its own.

        Raises:
            UserError: if they cannot be fetched, the data holds no labels out, or a checkpoint waits for scores of a
                segmentation.
        """
        refuse_tile_monitors(self.trainer)
        if not hasattr(getattr(self.trainer, "datamodule", None), "held_out_batches"):
            raise UserError("TileClassifier needs labelled tiles: take the data module LabelledTiles")
        # Lightning keeps the modes that it finds.
        self.train()
        if self.weights is None or self.trainer.ckpt_path:
            return
        name = f"{self.encoder}.{self.weights}"
        try:
            state = _resnet(name, pretrained=True).state_dict()
        # A network that cannot be reached shows in a dozen unrelated types.
        except Exception as error:
            raise UserError(
                f"the weights {name} cannot be fetched ({type(error).__name__}: {str(error)[:200]}): run this once "
                "where there is a network, so that they lie in timm's cache, or pass --model.weights null"
            ) from error
        kept = {key: value for key, value in state.items() if not key.startswith("fc.")}
        self.network.load_state_dict(kept, strict=False)
        rank_zero_info(f"weights of {name}, {sum(value.numel() for value in kept.values()):,} numbers; a new head")

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``float32 (B,)`` that tiles are informative, of grey levels 0–255 ``(B, 1, Y, X)``."""
        logits: Tensor = self.network((image.float() - _GREY_MEAN) / _GREY_STD)
        return logits[:, 0].float()

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch; ``label`` is 1 for informative tiles, 0 for others."""
        loss = F.binary_cross_entropy_with_logits(self(batch["image"]), batch["label"].float())
        size = len(batch["label"])
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Score on the held-out labels of all ranks."""
        # Its batches are this rank's share: `image` uint8 (B, 1, 224, 224) and `label` int64 (B,), 0 or 1.
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.eval()
        with torch.no_grad():
            mine = [(self(batch["image"].to(self.device)).cpu(), batch["label"]) for batch in data.held_out_batches()]
        self.train()
        everywhere = [batch for rank in from_all_ranks(lambda: mine) for batch in rank]
        logits, labels = (torch.cat([part[column] for part in everywhere]) for column in (0, 1))
        self.auroc, self.scored_on = float(binary_auroc(torch.sigmoid(logits), labels)), len(labels)
        self.log("val/auroc", self.auroc, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the last stage and the head."""
        return self.make_optimizer([weight for weight in self.parameters() if weight.requires_grad])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what a reader of the checkpoint wants to know."""
        about = {"auroc": self.auroc, "scored_on": self.scored_on, "encoder": self.encoder}
        checkpoint["emseg"] = {"architecture": type(self).__name__, **about}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the score, and refuse a checkpoint of another network.

        Raises:
            UserError: naming the first weights that differ.
        """
        checkpoints.check_matches(self, checkpoint)
        about = checkpoint.get("emseg", {})
        self.auroc, self.scored_on = about.get("auroc"), about.get("scored_on", 0)

    @torch.no_grad()
    def scores(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``float32 (N,)`` that tiles ``uint8 (N, Y, X)`` are informative."""
        images = torch.from_numpy(tiles)[:, None]
        parts = [torch.sigmoid(self(part.to(self.device))).cpu() for part in torch.split(images, _FORWARD)]
        return torch.cat(parts).numpy()


def _resnet(name: str, pretrained: bool) -> nn.Module:
    """Of timm, for one channel and one output."""
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, in_chans=1, num_classes=1)
    except RuntimeError as error:
        if pretrained:
            raise
        raise UserError(f"model.encoder {name!r}: {error}; `timm.list_models()` has all names") from None
    if not all(hasattr(network, part) for part in _TRAINED):
        raise UserError(f"model.encoder {name!r} has no {' and '.join(_TRAINED)}: choose a ResNet")
    return network
