"""U-Net with any encoder."""

from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as smp
from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from lightning_emseg.core.weights import initialise_encoder, load_moco_weights
from lightning_emseg.modules.mixin import SegmentationMixin, maps_of
from lightning_emseg.modules.smp_model import build, with_extras


def start_from_moco(module: SegmentationMixin, encoder: nn.Module, path: Path, use_norms: bool = True) -> None:
    """Take over an encoder in CEM500K's released format (Conrad and Narayan 2021), and say what was loaded.

    Args:
        module: Whose normalisation may change.
        encoder: Of its network.
        path: Of the file.
        use_norms: Whether the file's mean and standard deviation of grey values replace those of the module.

    Raises:
        UserError: if the file is missing, of another format, or does not fit the encoder.
    """
    weights = load_moco_weights(path)
    report = initialise_encoder(encoder, weights)
    rank_zero_info(f"encoder weights from {path}: {report}; the decoder starts random")
    if use_norms and weights.norms is not None:
        module.grey_mean.fill_(weights.norms[0])
        module.grey_std.fill_(weights.norms[1])


_FILES = (".pth", ".pt", ".tar")


class UNet(SegmentationMixin):
    """U-Net (Ronneberger et al. 2015) with an encoder of ``smp`` or ``timm``; ResNet-50 in U-RISC [J].

    Args:
        encoder: Name in smp; timm's encoders as ``tu-<name>``.
        encoder_weights: Pretrained weights that smp downloads, e.g. ``imagenet``, or a file of MoCoV2 in CEM500K's
            format (``.pth``, ``.pth.tar``), whose grey-value norms are taken over too; none by default.
        freeze_encoder: Whether the encoder keeps the weights that it starts with.
        freeze_norms: Whether the batch norms of a frozen encoder keep their statistics too; in the published code of
            CEM500K's transfer benchmarks they follow the images.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        decoder_attention: ``scse`` for concurrent spatial and channel squeeze and excitation (Roy et al. 2018).
        hypercolumns: Whether the head sees the outputs of all decoder blocks.
        scales: Scales of the input that are predicted and fused, e.g. ``[0.5, 1.0]``.
        kwargs: See :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    def __init__(
        self,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        freeze_encoder: bool = False,
        freeze_norms: bool = True,
        in_channels: int = 1,
        classes: list[str] | None = None,
        decoder_attention: Literal["scse"] | None = None,
        hypercolumns: bool = False,
        scales: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        file = Path(encoder_weights) if encoder_weights and encoder_weights.endswith(_FILES) else None
        maps = maps_of(classes)
        network: Any = build(
            smp.Unet,
            encoder,
            encoder_weights=None if file else encoder_weights,
            in_channels=in_channels,
            classes=maps,
            decoder_attention_type=decoder_attention,
        )
        wrapped, stride = with_extras(network, hypercolumns, scales, in_channels, maps)
        super().__init__(wrapped, in_channels=in_channels, stride=stride, classes=classes, **kwargs)
        # In tuples, as torch would register it a second time otherwise.
        self._moco = (network.encoder, file) if file else None
        if freeze_encoder:
            network.encoder.requires_grad_(False)
        # Lightning keeps the modes that it finds, it does not call `train()` first.
        self._still = (network.encoder.eval(),) if freeze_encoder and freeze_norms else ()

    def initialise_weights(self) -> None:
        """Load a file of MoCoV2 into the encoder, or everything from ``start_from`` in a second stage.

        Raises:
            UserError: if the file does not fit the encoder.
        """
        if self.start_from is None and self._moco is not None:
            start_from_moco(self, *self._moco)
        super().initialise_weights()

    def train(self, mode: bool = True) -> "UNet":
        """As always, but an encoder whose batch norms are frozen stays in evaluation mode."""
        super().train(mode)
        for encoder in self._still:
            encoder.eval()
        return self
