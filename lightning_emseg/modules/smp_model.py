"""LinkNet and all other architectures of segmentation_models_pytorch."""

from collections.abc import Callable, Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.modules.mixin import SegmentationMixin, count_maps
from lightning_emseg.networks.wrappers import Hypercolumns, MultiScaleInput


def build(architecture: Callable[..., nn.Module], encoder: str, **options: Any) -> nn.Module:
    """Build an smp network of one class.

    Raises:
        UserError: if smp and timm have no such encoder.
    """
    try:
        return architecture(encoder, **options)
    except KeyError as error:
        name = getattr(architecture, "__name__", "network")
        raise UserError(f"model.encoder {encoder!r} of {name}: {str(error.args[0])[:300]} …") from None


_TRIAL_PX = 128
"""Side of the image that shows which weights a network uses."""


def with_extras(
    network: Any, hypercolumns: bool, scales: Sequence[float] | None, in_channels: int, maps: int = 1
) -> tuple[nn.Module, int]:
    """Wrap an smp network as configured, and freeze the weights that it does not use.

    Args:
        network: Network of ``segmentation_models_pytorch``.
        hypercolumns: Whether the head sees the outputs of all decoder blocks (Hariharan et al. 2015).
        scales: Scales of the input that are predicted and fused (Chen et al. 2016), or ``None``.
        in_channels: Number of channels of the network's input.
        maps: Number of maps that the network returns.

    Returns:
        The network and the multiple that the sides of its input must have.
    """
    stride = int(network.encoder.output_stride) if network.requires_divisible_input_shape else 1
    if hypercolumns:
        network = Hypercolumns(network)
    if scales:
        stride = max(stride, 1)
        network = MultiScaleInput(network, tuple(scales), maps, stride)
    _freeze_unused(network, in_channels, stride)
    return network, stride


def _freeze_unused(network: nn.Module, in_channels: int, stride: int) -> None:
    """Freeze weights that the output does not depend on; DDP would hang on them, as they get no gradients.

    Such are the first attention of the last scSE block, which has no skip connection, the head of an EfficientNet, and
    the layers below the depth that PSPNet takes from its encoder. Networks that refuse the trial image are left alone.
    """
    side = -(-_TRIAL_PX // stride) * stride
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    was_training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            answer = network(torch.zeros(1, in_channels, side, side)).sum()
            gradients = torch.autograd.grad(answer, weights, allow_unused=True)
    except (AssertionError, RuntimeError, ValueError):
        return
    finally:
        network.train(was_training)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.requires_grad_(gradient is not None)


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
        kwargs: Further arguments of :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.

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
        maps = count_maps(classes)
        given = {"encoder_weights": encoder_weights, "in_channels": in_channels, "classes": maps}
        try:
            network = smp.create_model(architecture, encoder, **given, **(options or {}))
        except KeyError as error:
            raise UserError(f"model.architecture {architecture} with encoder {encoder}: {error.args[0]}") from None
        wrapped, stride = with_extras(network, False, scales, in_channels, maps)
        super().__init__(wrapped, in_channels=in_channels, stride=stride, classes=classes, **kwargs)


class LinkNet(SegmentationMixin):
    """LinkNet (Chaurasia and Culurciello 2017); ResNet-18 in U-RISC.

    Args:
        encoder: Name in smp; timm's encoders as ``tu-<name>``.
        encoder_weights: Pretrained weights that smp downloads, e.g. ``imagenet``; none by default.
        in_channels: Channels of the images.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        hypercolumns: Whether the head sees the outputs of all decoder blocks.
        scales: Scales of the input that are predicted and fused, e.g. ``[0.5, 1.0]``.
        kwargs: Further arguments of :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
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
        maps = count_maps(classes)
        network = build(smp.Linknet, encoder, encoder_weights=encoder_weights, in_channels=in_channels, classes=maps)
        wrapped, stride = with_extras(network, hypercolumns, scales, in_channels, maps)
        super().__init__(wrapped, in_channels=in_channels, stride=stride, classes=classes, **kwargs)
