"""Networks of images over volumes: plane by plane, and in three directions (Conrad and Narayan 2021)."""

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor], Tensor]

_AT_ONCE = 16
"""Planes of a forward pass without gradients, so that memory does not grow with the depth of a tile."""
_ORDERS = ((0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 4, 2, 3))
"""Axes of a batch that make xy, xz and yz its last two."""


def plane_by_plane(predict: Predict, volume: Tensor) -> Tensor:
    """Stack inference: every xy plane is an image.

    Args:
        predict: From images ``(N, C, Y, X)`` to maps ``(N, K, Y, X)``.
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
        predict: From volumes ``(B, C, Z, Y, X)`` to probabilities ``(B, [K,] Z, Y, X)``, by their last two axes.
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
