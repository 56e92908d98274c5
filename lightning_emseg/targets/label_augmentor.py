"""CleftNet's label augmentor: beside its class, every voxel gets how deep it lies inside its synaptic cleft."""

from collections.abc import Sequence

import edt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.batch import IGNORE

CREMI_VOXEL = (10.0, 1.0, 1.0)
"""A voxel of 40 × 4 × 4 nm in pixels of its plane."""

Volume = NDArray[np.float32]


def tanh_distance_map(
    clefts: NDArray[np.integer], ignored: NDArray[np.bool_], voxel: Sequence[float] = CREMI_VOXEL
) -> Volume:
    """Tanh of every cleft voxel's distance to the nearest voxel outside of its cleft (Liu and Ji 2021, eq. 6).

    The paper measures to the "boundary voxels of this cleft". Were these voxels of the cleft, all of a thin cleft would
    be 0, as its outside is, so the distance here is that between the centres of a voxel and of the nearest one that is
    known not to belong to the same cleft. An ignored voxel is neither cleft nor outside: distances reach across it to
    what is known. Nor is the border of the array an outside, as patches cut through clefts.

    Source: eq. 6 of the paper; the unit, which decides where tanh saturates, is left open by it. In nanometers all
    values would be 1.

    Args:
        clefts: ``(*S)``, 2D or 3D; 0 outside, any other value the id of a cleft. Touching clefts of different ids have
            a boundary between them. Where clefts are told apart as connected components (of any connectivity), 1 for
            all of them gives the same distances: the voxel nearest to a component and outside of it is background,
            since the next one on the way to it would otherwise be nearer.
        ignored: ``bool (*S)``; such voxels get 0, whatever their id.
        voxel: Size of a voxel along each axis in the unit of the distance, by default in pixels of CREMI's planes.
            Ones count voxels.

    Returns:
        ``float32 (*S)`` in (0, 1] inside clefts, 0 elsewhere; 1 in single precision from a distance of about 9 on, and
        where nothing known is outside.

    >>> tanh_distance_map(np.array([[0, 1, 1, 0, 0]]), np.zeros((1, 5), bool), (1, 1)).round(3)
    array([[0.   , 0.762, 0.762, 0.   , 0.   ]], dtype=float32)
    """
    inside = (clefts != 0) & ~ignored
    if not inside.any():
        return np.zeros(clefts.shape, np.float32)
    if not ignored.any():
        return np.tanh(_depth(clefts, voxel))
    found = np.zeros(clefts.shape, np.float32)
    for cleft in np.unique(clefts[inside]):
        own = inside & (clefts == cleft)
        # What is ignored counts as the same cleft here, so that no distance ends in it.
        found[own] = np.tanh(_depth((own | ignored).view(np.uint8), voxel)[own])
    return found


def _depth(labels: NDArray[np.integer], voxel: Sequence[float]) -> Volume:
    """Distance of labelled voxels to the nearest one with another label; infinite if there is none."""
    # Not of booleans, which the package takes up to ten times as long for.
    distances: Volume = edt.edt(np.ascontiguousarray(labels), anisotropy=tuple(voxel), black_border=False)
    return distances


@torch.compiler.disable  # type: ignore[untyped-decorator]
def boundary_labels(mask: Tensor, voxel: Sequence[float] = CREMI_VOXEL) -> Tensor:
    """Boundary labels y_b of a batch of masks; see :func:`tanh_distance_map`.

    The transform runs on the CPU, one sample after the other.

    Args:
        mask: ``uint8 (B, *S)`` on any device, 1 cleft, 0 outside, 255 ignore; every other value counts as outside.
        voxel: Size of a voxel along each axis in pixels of its plane.

    Returns:
        ``float32 (B, *S)`` on the device of the mask, in (0, 1] where the mask is 1 and 0 elsewhere, also where it is
        ignored.

    Raises:
        ValueError: There is not one size of a voxel an axis.
    """
    if mask.ndim - 1 != len(voxel):
        raise ValueError(f"boundary_labels: a mask (B, *S) of {tuple(mask.shape)} has no voxel of {tuple(voxel)}")
    masks = mask.cpu().numpy()
    maps = [tanh_distance_map((each == 1).view(np.uint8), each == IGNORE, voxel) for each in masks]
    return torch.from_numpy(np.stack(maps)).to(mask.device)
