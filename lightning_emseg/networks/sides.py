"""Checks of the input of networks with a stride."""

from math import prod

from torch import Tensor, nn

from data_modules.errors import UserError


def check_sides(x: Tensor, stride: int | tuple[int, int, int], network: str) -> None:
    """Refuse an image or a volume whose sides the network cannot halve evenly.

    Args:
        x: ``(B, C, Y, X)``, or ``(B, C, Z, Y, X)`` for a network with a stride an axis.
        stride: Multiple in px that the sides must be: one number for Y and X, or one an axis of a volume.
        network: Name for the message.

    Raises:
        UserError: A side is no multiple of its stride, or images go into a network of volumes.
    """
    if isinstance(stride, int):
        height, width = x.shape[-2:]
        if height % stride or width % stride:
            raise UserError(
                f"{network} takes images whose sides are multiples of {stride} px, but got {height} × {width}; "
                f"choose such a patch size, or pad"
            )
        return
    if x.ndim != 5:
        raise UserError(
            f"{network} takes volumes (batch, channels, Z, Y, X), but got a batch of {x.ndim} axes: choose a store of "
            "volumes, and leave data.planes out"
        )
    sides = x.shape[2:]
    if any(side == 0 or side % step for side, step in zip(sides, stride, strict=True)):
        nearest = [max(1, round(side / step)) * step for side, step in zip(sides, stride, strict=True)]
        raise UserError(
            f"{network} takes volumes whose depth, height and width are multiples of {_times(stride)} voxels, but got "
            f"{_times(sides)}; choose a patch and tile size of e.g. {nearest}, or build the network for another "
            "model.patch"
        )


def check_bottom(x: Tensor, stride: tuple[int, int, int], network: nn.Module) -> None:
    """Refuse, in training, a batch of which the bottom of a network sees one voxel: batch norm has no variance there.

    Args:
        x: ``(B, C, Z, Y, X)``.
        stride: Product of the network's factors an axis.
        network: Network with batch norm at its bottom.

    Raises:
        UserError: A single voxel is left, and a batch norm is in training.
    """
    if len(x) * prod(side // step for side, step in zip(x.shape[2:], stride, strict=True)) > 1:
        return
    if any(norm.training for norm in network.modules() if isinstance(norm, nn.BatchNorm3d)):
        raise UserError(
            f"{type(network).__name__} shrinks this batch of one patch of {_times(x.shape[2:])} voxels to a single "
            "voxel, of which its batch norm can learn nothing: choose a larger data.batch_size or data.patch_size"
        )


def _times(sides: tuple[int, ...]) -> str:
    return " × ".join(str(side) for side in sides)
