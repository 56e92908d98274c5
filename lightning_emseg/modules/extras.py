"""What the architectures of segmentation_models_pytorch share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.networks.hypercolumn import Hypercolumns
from lightning_emseg.networks.multiscale import MultiScaleInput


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
        network: From ``segmentation_models_pytorch``.
        hypercolumns: Whether the head sees the outputs of all decoder blocks (Hariharan et al. 2015).
        scales: Scales of the input that are predicted and fused (Chen et al. 2016), or ``None``.
        in_channels: Channels of its input.
        maps: That it returns.

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
    """Freeze weights that the output does not depend on; several ranks would wait for their gradients in vain.

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
