"""Weights with which overlapping tiles are averaged."""

import functools
from collections import OrderedDict
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.grid import Grid, Shape

_KEPT = 8
"""Windows in memory; a row of 2D tiles needs 4 at 50 % overlap, and 8 at 75 %."""

Blend = Literal["constant", "cosine", "gaussian"]
Window = NDArray[np.float64]


def window(length: int, blend: Blend) -> Window:
    """Weights along one axis of a tile, all positive.

    Args:
        length: Of the tile in px.
        blend: ``constant`` is the plain mean of U-RISC's published code; ``cosine`` is a Hann window;
            ``gaussian`` has σ = length / 8, as nnU-Net and MONAI use.

    >>> window(4, "constant")
    array([1., 1., 1., 1.])
    """
    offset = (np.arange(length) + 0.5) / length - 0.5
    if blend == "constant":
        return np.ones(length)
    if blend == "cosine":
        return np.cos(np.pi * offset) ** 2
    return np.exp(-0.5 * (offset * 8) ** 2)


def normalised_windows(grid: Grid, blend: Blend) -> list[dict[int, Window]]:
    """For each axis the weights of the tile at each origin, such that all tiles' weights add up to 1 at every pixel.

    Weights are products over the axes, and so are their sums, because the tiles form a grid. Normalising here
    leaves nothing to divide by when tiles are blended.
    """
    axes = []
    for starts, length, tile in zip(grid.starts, grid.shape, grid.tile, strict=True):
        weights = window(tile, blend)
        total = np.zeros(max(length, tile))
        for start in starts:
            total[start : start + tile] += weights
        axes.append({start: weights / total[start : start + tile] for start in starts})
    return axes


class Windows:
    """Weights of whole tiles, made when first needed: tiles at the same distance from the borders share theirs.

    Args:
        grid: Tiles.
        blend: Weights.
        device: Of the tensors.
        scale: Multiplies all weights.
    """

    def __init__(self, grid: Grid, blend: Blend, device: torch.device, scale: float = 1.0) -> None:
        self._axes = [
            {start: weights[:length] for start, weights in axis.items()}
            for axis, length in zip(normalised_windows(grid, blend), grid.shape, strict=True)
        ]
        self._kinds: list[dict[int, int]] = []
        for axis in self._axes:
            numbers: dict[bytes, int] = {}
            self._kinds.append({at: numbers.setdefault(weights.tobytes(), at) for at, weights in axis.items()})
        self._device, self._scale = device, scale
        self._made: OrderedDict[Shape, Tensor] = OrderedDict()

    def __getitem__(self, origin: Shape) -> Tensor:
        """``float32``, of the tile at ``origin`` without what lies outside a mosaic that is smaller than a tile."""
        kind = tuple(axis[start] for axis, start in zip(self._kinds, origin, strict=True))
        if kind not in self._made:
            if len(self._made) == _KEPT:
                self._made.popitem(last=False)
            along = [axis[start] for axis, start in zip(self._axes, kind, strict=True)]
            product = functools.reduce(np.multiply.outer, along) * self._scale
            self._made[kind] = torch.from_numpy(product.astype(np.float32)).to(self._device)
        self._made.move_to_end(kind)
        return self._made[kind]
