"""How far an input pixel can be from the pixel it has an influence on: exactly, from the network itself."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_modules.grid import Shape
from lightning_emseg.attribution.sides import SECTION_AXES, per_axis

_CELL = 32


def receptive_radius(
    network: nn.Module, shape: Sequence[int], channels: int, stride: int | Sequence[int]
) -> Shape | None:
    """Largest distance along each axis from which any pixel can reach the answer at another one.

    Half of a window is filled with NaN, which passes through every operation that depends on it, whatever the weights.
    The half ends with the first pixel of a cell of the network's coarsest grid, which reaches furthest; cells are taken
    to be of 32 px, or whatever divides that, as networks that pad inside do not name their true stride.

    Args:
        network: In evaluation mode, from ``float (B, C, *S)`` to ``(B, 1, *S)``.
        shape: Of a window, in px.
        channels: Of its images.
        stride: Multiple that sides must have, one for all axes or one an axis; how far the influence reaches may depend
            on the position within it.

    Returns:
        Radii in px, rounded up by ``stride``; ``None`` where influence reaches across half of the window along Y or X,
        or such a side has no room for two multiples of ``stride``. Volumes have few sections: where influence crosses
        half of these, or they have no room, the radius along Z is their number, and those of Y and X still hold.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    radii = []
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for axis, (side, step) in enumerate(zip(shape, per_axis(stride, len(shape)), strict=True)):
            cut = _cut(side, step)
            reaches = []
            for filled in (slice(0, cut + 1), slice(cut - 1, side)) if cut else ():
                window = torch.zeros(1, channels, *shape, device=device)
                window.movedim(axis + 2, 0)[filled] = torch.nan
                reaches.append(_reach(network(window)[0, 0], axis, filled))
            found = [reach for reach in reaches if reach is not None]
            if len(found) == 2:
                radii.append(min(side, max(found) + step))
            elif axis < len(shape) - SECTION_AXES:
                radii.append(side)
            else:
                return None
    return tuple(radii)


def _cut(side: int, stride: int) -> int:
    """Where a cell begins near the middle of a side; 0 if none does."""
    coarse = math.lcm(stride, _CELL)
    return side // 2 // coarse * coarse or side // 2 // stride * stride


def _reach(answer: Tensor, axis: int, filled: slice) -> int | None:
    """Rows beyond the filled ones that NaN has entered; ``None`` if it has crossed all of them."""
    rows: list[int] = answer.isnan().movedim(axis, 0).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if not rows or (rows[0] == 0 and rows[-1] == answer.shape[axis] - 1):
        return None
    reach: int = rows[-1] + 1 - filled.stop if filled.start == 0 else filled.start - rows[0]
    return max(0, reach)


def box_around(
    pixel: Sequence[int], radius: Sequence[int], shape: Sequence[int], stride: int | Sequence[int] = 1
) -> tuple[slice, ...]:
    """The part of a window within ``radius`` px of a pixel, grown to multiples of ``stride`` and cut at the border.

    >>> box_around((5, 50), (8, 8), (64, 64), stride=16)
    (slice(0, 16, None), slice(32, 64, None))
    """
    return tuple(
        slice(
            max(0, (at - reach) // step * step),
            min(side, math.ceil((at + reach + 1) / step) * step),
        )
        for at, reach, side, step in zip(pixel, radius, shape, per_axis(stride, len(shape)), strict=True)
    )
