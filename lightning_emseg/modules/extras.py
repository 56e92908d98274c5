"""What the architectures of segmentation_models_pytorch share."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from data_modules.errors import UserError
from lightning_emseg.networks import Hypercolumns, MultiScaleInput


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


def with_extras(network: Any, hypercolumns: bool, scales: Sequence[float] | None) -> tuple[nn.Module, int]:
    """Wrap an smp network as configured.

    Args:
        network: From ``segmentation_models_pytorch``.
        hypercolumns: Whether the head sees the outputs of all decoder blocks (Hariharan et al. 2015).
        scales: Scales of the input that are predicted and fused (Chen et al. 2016), or ``None``.

    Returns:
        The network and the multiple that the sides of its input must have.
    """
    stride = int(network.encoder.output_stride) if network.requires_divisible_input_shape else 1
    if hypercolumns:
        network = Hypercolumns(network)
    if scales:
        stride = max(stride, 1)
        network = MultiScaleInput(network, tuple(scales), stride=stride)
    return network, stride
