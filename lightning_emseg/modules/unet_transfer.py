"""U-Net whose encoder was pretrained on electron micrographs."""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch

from data_modules.errors import UserError
from lightning_emseg.modules.mixin import SegmentationMixin, maps_of
from lightning_emseg.modules.smp_model import build
from lightning_emseg.modules.unet import start_from_moco


class UNetTransfer(SegmentationMixin):
    """U-Net-transfer of U-RISC: ResNet-50 from MoCoV2 on CEM500K (Conrad and Narayan 2021).

    Args:
        weights: Checkpoint of MoCoV2 in CEM500K's released format; needed when training begins, not afterwards.
        freeze_encoder: Whether the encoder keeps its weights and its batch-norm statistics.
        encoder: Encoder that the weights are of.
        use_norms: Whether the grey-value norms in ``weights`` replace ``grey_mean`` and ``grey_std``.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        kwargs: See :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    def __init__(
        self,
        weights: str | None = None,
        freeze_encoder: bool = False,
        encoder: str = "resnet50",
        use_norms: bool = True,
        in_channels: int = 1,
        classes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        maps = maps_of(classes)
        network: Any = build(smp.Unet, encoder, encoder_weights=None, in_channels=in_channels, classes=maps)
        stride = int(network.encoder.output_stride)
        super().__init__(network, in_channels=in_channels, stride=stride, classes=classes, **kwargs)
        self.weights_path, self.use_norms, self.freeze_encoder = weights, use_norms, freeze_encoder
        if freeze_encoder:
            # Lightning keeps the modes that it finds, it does not call `train()` first.
            self._encoder.requires_grad_(False).eval()

    @property
    def _encoder(self) -> torch.nn.Module:
        encoder: torch.nn.Module = self.network.encoder  # type: ignore[assignment]
        return encoder

    def initialise_weights(self) -> None:
        """Load the pretrained encoder, or everything from ``start_from`` in a second stage.

        Raises:
            UserError: if neither is given, or the file does not fit the encoder.
        """
        if self.start_from is not None:
            super().initialise_weights()
            return
        if self.weights_path is None:
            raise UserError(
                "U-Net-transfer needs a pretrained encoder: pass --model.weights FILE (CEM500K's released "
                "cem500k_mocov2_resnet50_200ep.pth.tar), or use the plain UNet"
            )
        start_from_moco(self, self._encoder, Path(self.weights_path), self.use_norms)

    def train(self, mode: bool = True) -> "UNetTransfer":
        """As always, but a frozen encoder stays in evaluation mode, so that its batch norms do not drift."""
        super().train(mode)
        if self.freeze_encoder:
            self._encoder.eval()
        return self
