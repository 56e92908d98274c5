"""Means over several predictions of one image: symmetries of the square, and planes of a volume."""

import itertools
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Views = Literal["none", "flips", "dihedral"]
Symmetry = tuple[bool, bool, bool]
"""Whether Y and X change places, and whether Y and X are then reversed."""

_EITHER = (False, True)
_ALL: tuple[Symmetry, ...] = tuple(itertools.product(_EITHER, _EITHER, _EITHER))


def symmetries(kind: Views) -> tuple[Symmetry, ...]:
    """The identity first; ``flips`` are 4 (half a turn among them), ``dihedral`` all 8 flips and rotations."""
    return {"none": _ALL[:1], "flips": _ALL[:4], "dihedral": _ALL}[kind]


def transformed(image: Tensor, symmetry: Symmetry) -> Tensor:
    """Apply a symmetry to the last two axes, ``(…, Y, X)``; sides that differ change places with the axes."""
    swap, *reverse = symmetry
    moved = image.transpose(-2, -1) if swap else image
    axes = [axis for axis, wanted in zip((-2, -1), reverse, strict=True) if wanted]
    return moved.flip(axes) if axes else moved


def restored(image: Tensor, symmetry: Symmetry) -> Tensor:
    """Undo :func:`transformed`."""
    swap, *reverse = symmetry
    axes = [axis for axis, wanted in zip((-2, -1), reverse, strict=True) if wanted]
    moved = image.flip(axes) if axes else image
    return moved.transpose(-2, -1) if swap else moved


def average_views(predict: Callable[[Tensor], Tensor], image: Tensor, kind: Views) -> Tensor:
    """Average the probabilities that ``predict`` gives for the transformed images, each turned back.

    Blending is linear, so averaging each tile and then blending is the same as stitching one map for every symmetry
    from the same tiles and averaging the maps; thresholds come after both.

    Args:
        predict: Function from images ``(B, C, [Z,] Y, X)`` to probabilities ``(B, [Z,] Y, X)``.
        image: Images in either memory format, which ``predict`` sees kept. Volumes are turned in their plane.
        kind: ``none`` calls ``predict`` once and returns what it returns.
    """
    others = symmetries(kind)[1:]
    total = predict(image)
    channels_last = image.ndim == 4 and image.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for symmetry in others:
        seen = transformed(image, symmetry).contiguous(memory_format=layout)
        total = total + restored(predict(seen), symmetry)
    return total / (1 + len(others)) if others else total


Predict = Callable[[Tensor], Tensor]

_AT_ONCE = 16
"""Planes of a forward pass without gradients, so that memory does not grow with the depth of a tile."""
_ORDERS = ((0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 4, 2, 3))
"""Axes of a batch that make xy, xz and yz its last two."""


def plane_by_plane(predict: Predict, volume: Tensor) -> Tensor:
    """Stack inference: every xy plane is an image.

    Args:
        predict: Function from images ``(N, C, Y, X)`` to maps ``(N, K, Y, X)``.
        volume: ``(B, C, Z, Y, X)``.

    Returns:
        ``(B, K, Z, Y, X)``.
    """
    batch, _, depth = volume.shape[:3]
    images = volume.transpose(1, 2).flatten(0, 1)
    if torch.is_grad_enabled():
        maps = predict(images)
    else:
        maps = torch.cat([predict(part) for part in torch.split(images, _AT_ONCE)])
    return maps.reshape(batch, depth, *maps.shape[1:]).transpose(1, 2)


def orthogonal_mean(predict: Predict, volume: Tensor) -> Tensor:
    """Orthoplane inference: the mean of what is predicted along xy, xz and yz planes.

    Args:
        predict: Function from volumes ``(B, C, Z, Y, X)`` to probabilities ``(B, [K,] Z, Y, X)``, by their last two
            axes.
        volume: ``(B, C, Z, Y, X)``.

    Returns:
        ``(B, [K,] Z, Y, X)``.
    """
    total: Tensor | None = None
    for order in _ORDERS:
        made = predict(volume.permute(order))
        # Only the last three axes have changed places.
        places = [order.index(axis) - 5 for axis in (2, 3, 4)]
        turned = made.permute(*range(made.ndim - 3), *(made.ndim + place for place in places))
        total = turned if total is None else total + turned
    assert total is not None
    return total / len(_ORDERS)
