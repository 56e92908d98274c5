"""U-Net with any encoder."""

from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as smp
from pytorch_lightning.utilities import rank_zero_info

from lightning_emseg.core.weights import initialise_encoder, load_moco_weights
from lightning_emseg.modules.mixin import SegmentationMixin, count_maps
from lightning_emseg.modules.smp_model import build, with_extras


class UNet(SegmentationMixin):
    """U-Net (Ronneberger et al. 2015) with an encoder of ``smp`` or ``timm``; ResNet-50 in U-RISC [J].

    Pretrained on CEM500K by MoCoV2 (Conrad and Narayan 2021), it is U-RISC's U-Net-transfer.

    Args:
        encoder: Name in smp; timm's encoders as ``tu-<name>``.
        encoder_weights: Pretrained weights that smp downloads, e.g. ``imagenet``, or a file of MoCoV2 in CEM500K's
            format (``.pth``, ``.pth.tar``), which is needed when training begins; none by default.
        use_norms: Whether the grey-value norms in such a file replace ``grey_mean`` and ``grey_std``.
        freeze_encoder: Whether the encoder keeps the weights that it starts with.
        freeze_norms: Whether the batch norms of a frozen encoder keep their statistics too; in the published code of
            CEM500K's transfer benchmarks they follow the images.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        decoder_attention: ``scse`` for concurrent spatial and channel squeeze and excitation (Roy et al. 2018).
        hypercolumns: Whether the head sees the outputs of all decoder blocks.
        scales: Scales of the input that are predicted and fused, e.g. ``[0.5, 1.0]``.
        kwargs: Further arguments of :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
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
        use_norms: bool = True,
        **kwargs: Any,
    ) -> None:
        is_file = encoder_weights is not None and encoder_weights.endswith((".pth", ".pt", ".tar"))
        maps = count_maps(classes)
        network: Any = build(
            smp.Unet,
            encoder,
            encoder_weights=None if is_file else encoder_weights,
            in_channels=in_channels,
            classes=maps,
            decoder_attention_type=decoder_attention,
        )
        wrapped, stride = with_extras(network, hypercolumns, scales, in_channels, maps)
        super().__init__(wrapped, in_channels=in_channels, stride=stride, classes=classes, **kwargs)
        self.moco_file = Path(str(encoder_weights)) if is_file else None
        self.use_norms = use_norms
        # In a tuple, as torch would register the encoder a second time otherwise.
        self._encoder = (network.encoder,)
        self.keeps_norms = freeze_encoder and freeze_norms
        if freeze_encoder:
            network.encoder.requires_grad_(False)
        if self.keeps_norms:
            # Lightning keeps the modes that it finds, it does not call `train()` first.
            network.encoder.eval()

    def initialise_weights(self) -> None:
        """Load a file of MoCoV2 into the encoder, or everything from ``start_from`` in a second stage.

        Raises:
            UserError: if the file is missing, of another format, or does not fit the encoder.
        """
        if self.start_from is not None or self.moco_file is None:
            super().initialise_weights()
            return
        weights = load_moco_weights(self.moco_file)
        report = initialise_encoder(self._encoder[0], weights)
        rank_zero_info(f"encoder weights from {self.moco_file}: {report}; the decoder starts random")
        if self.use_norms and weights.norms is not None:
            self.grey_mean.fill_(weights.norms[0])
            self.grey_std.fill_(weights.norms[1])

    def train(self, mode: bool = True) -> "UNet":
        """Set the mode, but leave an encoder whose batch norms are frozen in evaluation mode."""
        super().train(mode)
        if self.keeps_norms:
            self._encoder[0].eval()
        return self
