"""Sides of windows of images and of volumes, from what a user gives and what a network takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from data_modules.errors import UserError
from data_modules.grid import Shape

SECTION_AXES = 2
"""Y and X, the last axes of an image and of a volume."""


def per_axis(given: int | Sequence[int], axes: int) -> Shape:
    """One number an axis, of one number for all or one for each.

    >>> per_axis(4, 3), per_axis((1, 4, 4), 3)
    ((4, 4, 4), (1, 4, 4))
    """
    return (given,) * axes if isinstance(given, int) else tuple(given)


def strides_of(network: nn.Module, stride: int, axes: int) -> Shape:
    """Multiples that the sides of windows must have, one an axis.

    Args:
        network: One of volumes says it itself, as it shrinks sections and their number by factors of their own.
        stride: For all axes, where the network does not say.
        axes: Of the windows.
    """
    own = getattr(network, "stride", None)
    return tuple(own) if axes > SECTION_AXES and isinstance(own, tuple) and len(own) == axes else (stride,) * axes


def window_sides(given: int | Sequence[int], settings: Mapping[str, Any], axes: int) -> Shape:
    """The wanted window.

    Args:
        given: One side for all axes, of volumes no larger than the patch that the network is built for; or one side an
            axis, which is taken as it is.
        settings: Hyperparameters of the network's module; those of volumes name their ``patch``.
        axes: Of the windows.
    """
    patch = settings.get("patch") if axes > SECTION_AXES else None
    if not isinstance(given, int) or patch is None:
        return per_axis(given, axes)
    return tuple(min(given, int(side)) for side in patch)


def resized_sides(given: int | Sequence[int], window: Shape) -> Shape:
    """What a window is resized to: one side for its sections, whose number stays, or one side an axis.

    >>> resized_sides(512, (8, 1024, 1024)), resized_sides(512, (1024, 1024))
    ((8, 512, 512), (512, 512))
    """
    return (*window[:-SECTION_AXES], *(given,) * SECTION_AXES) if isinstance(given, int) else tuple(given)


def checked(option: str, given: int | Sequence[int], sides: Shape, axes: int, strides: Shape | None = None) -> Shape:
    """The sides, if they are sides.

    Args:
        option: Of the command line.
        given: What it was.
        sides: What that means.
        axes: Of the windows.
        strides: What the sides must be multiples of.

    Raises:
        UserError: naming the option.
    """
    if len(sides) != axes or min(sides) < 1:
        raise UserError(f"--{option} {given} has to be one side or {axes} sides of at least 1 px")
    for side, stride in zip(sides, strides or (1,) * axes, strict=True):
        if side % stride:
            nearest = max(1, round(side / stride)) * stride
            raise UserError(f"--{option} {side} is no multiple of the network's {stride} px: take {nearest}")
    return sides


def grid_steps(step: int, pixel_size_nm: Sequence[float], window: Shape, resized: Shape) -> Shape:
    """Steps of a grid, along Y and X as given, across sections the nearest to that in nm, and at least one.

    Args:
        step: Along Y and X, in px after any resize.
        pixel_size_nm: Of the mosaic, one value an axis.
        window: In px of the mosaic.
        resized: In px after any resize.

    >>> grid_steps(10, (40.0, 4.0, 4.0), (8, 64, 64), (8, 64, 64)), grid_steps(10, (4.0, 3.0), (64, 64), (32, 32))
    ((1, 10, 10), (10, 10))
    """
    sizes = [nm * side / after for nm, side, after in zip(pixel_size_nm, window, resized, strict=True)]
    return (*(max(1, round(step * sizes[-1] / nm)) for nm in sizes[:-SECTION_AXES]), *(step,) * SECTION_AXES)


def refuse_planes(network_axes: int, axes: int) -> None:
    """Refuse networks of images on volumes, which they see plane by plane.

    Args:
        network_axes: Of what the network takes.
        axes: Of the mosaics.

    Raises:
        UserError: because a field would be of one plane and not of the volume.
    """
    if network_axes < axes:
        raise UserError(
            "attribution fields: the network takes images and the mosaics are volumes, which it sees plane by plane; "
            "take a network of volumes, or a store of single sections"
        )
