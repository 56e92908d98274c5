"""Volumes as stacks of planes, for networks of images: which planes there are, and the sides of patches and tiles."""

from collections.abc import Sequence
from typing import Literal

from data_modules.errors import UserError
from data_modules.grid import Shape
from data_modules.store import MosaicView

Planes = Literal["xy", "orthogonal"]
"""Planes of volumes: xy alone, or xy, xz and yz of volumes with isotropic voxels, and xy of others."""

_UNEVEN = 0.2
"""Largest difference of Z and XY, as a share of XY, at which voxels count as isotropic (Conrad and Narayan 2021)."""
_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Axes of a volume, that across the planes first: xy, xz, yz."""


def is_isotropic(pixel_size_nm: Sequence[float]) -> bool:
    """Whether Z is within 20 % of X and Y.

    Args:
        pixel_size_nm: Of Z, Y and X.

    >>> is_isotropic((5, 4.2, 4.2)), is_isotropic((40, 4, 4))
    (True, False)
    """
    z, *xy = pixel_size_nm
    return all(abs(z - side) <= _UNEVEN * side for side in xy)


def plane_views(mosaics: Sequence[MosaicView], planes: Planes) -> list[MosaicView]:
    """Mosaics whose first axis runs across the planes: a volume gives one or three, an image one of one plane.

    Args:
        mosaics: Of two or three axes.
        planes: Of volumes.
    """
    views = []
    for mosaic in mosaics:
        if len(mosaic.shape) == 2:
            views.append(mosaic.as_plane())
        elif planes == "orthogonal" and is_isotropic(mosaic.pixel_size_nm):
            views += [mosaic, *(mosaic.along(*order) for order in _ORDERS[1:])]
        else:
            views.append(mosaic)
    return views


def tile_of(mosaic: MosaicView, size: int | list[int], planes: Planes | None) -> Shape:
    """Evaluation tile of a mosaic.

    Args:
        mosaic: Of two or three axes.
        size: ``data.tile_size``.
        planes: Of volumes. Isotropic ones are predicted in cubes where all planes are wanted, whose planes are then
            as large in every direction, and in single planes else.

    Raises:
        UserError: if ``size`` does not suit the mosaic's axes.
    """
    ndim = len(mosaic.shape)
    if planes is None or ndim == 2:
        return sides(size, ndim, "tile_size")
    plane = only_planes(size, "tile_size")
    if planes == "xy" or not is_isotropic(mosaic.pixel_size_nm):
        return plane
    _, height, width = plane
    if height != width:
        raise UserError(f"data.tile_size {size}: planes in three directions need one side for all")
    return (width, height, width)


def sides(size: int | list[int], ndim: int, name: str) -> Shape:
    """One value an axis.

    Raises:
        UserError: if there are more or fewer, or one for a volume.
    """
    if isinstance(size, int):
        if ndim != 2:
            raise UserError(
                f"data.{name} {size}: mosaics of {ndim} axes need one value an axis, e.g. [8, 256, 256]; for a network "
                "of images, pass --data.planes xy or orthogonal"
            )
        return (size,) * ndim
    if len(size) != ndim:
        raise UserError(f"data.{name} {size} has {len(size)} values, but the mosaics have {ndim} axes")
    return tuple(size)


def only_planes(size: int | list[int], name: str) -> Shape:
    """Shape of a patch or tile that is one plane of a volume.

    Raises:
        UserError: if there are neither one nor two values.
    """
    if not isinstance(size, int) and len(size) != 2:
        raise UserError(f"data.{name} {size}: planes have two sides, so give one value for both, or two")
    return (1, *sides(size, 2, name))
