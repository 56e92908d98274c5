"""Any other architecture of segmentation_models_pytorch."""

from typing import Any

import segmentation_models_pytorch as smp

from data_modules.errors import UserError
from lightning_emseg.modules.extras import with_extras
from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.outputs import maps_of


class SmpModel(SegmentationMixin):
    """An architecture of ``smp`` by name.

    Args:
        architecture: E.g. ``UnetPlusPlus``, ``FPN``, ``DeepLabV3Plus``, ``Segformer``.
        encoder: Name in smp; timm's encoders as ``tu-<name>``.
        encoder_weights: Pretrained weights that smp downloads, e.g. ``imagenet``; none by default.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        options: Further arguments of the architecture.
        scales: Scales of the input that are predicted and fused, e.g. ``[0.5, 1.0]``.
        kwargs: See :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.

    Raises:
        UserError: if smp has no such architecture or encoder.
    """

    def __init__(
        self,
        architecture: str,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        in_channels: int = 1,
        classes: list[str] | None = None,
        options: dict[str, Any] | None = None,
        scales: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        maps = maps_of(classes)
        given = {"encoder_weights": encoder_weights, "in_channels": in_channels, "classes": maps}
        try:
            network = smp.create_model(architecture, encoder, **given, **(options or {}))
        except KeyError as error:
            raise UserError(f"model.architecture {architecture} with encoder {encoder}: {error.args[0]}") from None
        wrapped, stride = with_extras(network, False, scales, in_channels, maps)
        super().__init__(wrapped, in_channels=in_channels, stride=stride, classes=classes, **kwargs)
