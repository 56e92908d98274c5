"""The U-Net of U-RISC's published code."""

from typing import Any

from lightning_emseg.modules.mixin import SegmentationMixin, count_maps
from lightning_emseg.networks import vanilla_unet


class VanillaUNet(SegmentationMixin):
    """U-Net without a pretrained kind of encoder, as in the published code of U-RISC (trained with BCE there).

    Args:
        base_channels: Channels of the first level; they double at each.
        depth: Number of halvings.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        kwargs: Further arguments of :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    def __init__(
        self,
        base_channels: int = 64,
        depth: int = 4,
        in_channels: int = 1,
        classes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        network = vanilla_unet.VanillaUNet(in_channels, count_maps(classes), base_channels, depth)
        super().__init__(network, in_channels=in_channels, stride=network.stride, classes=classes, **kwargs)
