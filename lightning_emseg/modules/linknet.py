"""LinkNet."""

from typing import Any

import segmentation_models_pytorch as smp

from lightning_emseg.modules.extras import build, with_extras
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.outputs import maps_of


class LinkNet(SegmentationMixin):
    """LinkNet (Chaurasia and Culurciello 2017); ResNet-18 in U-RISC.

    Args:
        encoder: Name in smp; timm's encoders as ``tu-<name>``.
        encoder_weights: Pretrained weights that smp downloads, e.g. ``imagenet``; none by default.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        hypercolumns: Whether the head sees the outputs of all decoder blocks.
        scales: Scales of the input that are predicted and fused, e.g. ``[0.5, 1.0]``.
        kwargs: See :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    def __init__(
        self,
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        in_channels: int = 1,
        classes: list[str] | None = None,
        hypercolumns: bool = False,
        scales: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        maps = maps_of(classes)
        network = build(smp.Linknet, encoder, encoder_weights=encoder_weights, in_channels=in_channels, classes=maps)
        wrapped, stride = with_extras(network, hypercolumns, scales, in_channels, maps)
        super().__init__(wrapped, in_channels=in_channels, stride=stride, classes=classes, **kwargs)
