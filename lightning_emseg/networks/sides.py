"""The one check that networks with a stride make of their input."""

from torch import Tensor

from data_modules.errors import UserError


def check_sides(x: Tensor, stride: int, network: str) -> None:
    """Refuse an image whose sides the network cannot halve evenly.

    Args:
        x: ``(B, C, Y, X)``.
        stride: What both sides must be multiples of, in px.
        network: Name for the message.

    Raises:
        UserError: A side is no multiple of ``stride``.
    """
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise UserError(
            f"{network} takes images whose sides are multiples of {stride} px, but got {height} × {width}; "
            f"choose such a patch size, or pad"
        )
