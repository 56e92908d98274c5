"""CASENet."""

from typing import Any

from data_modules.errors import UserError
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.networks import casenet


class CASENet(SegmentationMixin):
    """CASENet (Yu et al. 2017) as U-RISC describes it: ResNet-152 in [J], ResNet-101 in [P], ResNet-50 in its code.

    Args:
        encoder: A residual network of timm.
        in_channels: Channels of the images.
        fusion_batch_norm: Whether the sides are batch-normalised before they are fused, as in the published code.
        kwargs: Further arguments of :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    def __init__(
        self, encoder: str = "resnet152", in_channels: int = 1, fusion_batch_norm: bool = False, **kwargs: Any
    ) -> None:
        if kwargs.get("classes"):
            raise UserError("CASENet has one map, of a membrane: leave model.classes out")
        network = casenet.CASENet(encoder, in_channels, fusion_batch_norm=fusion_batch_norm)
        super().__init__(network, in_channels=in_channels, stride=network.stride, **kwargs)
