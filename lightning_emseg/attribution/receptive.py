"""How far an input pixel can be from the pixel it has an influence on: exactly, from the network itself."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_modules.grid import Shape


def receptive_radius(network: nn.Module, shape: Sequence[int], channels: int, stride: int) -> Shape | None:
    """Largest distance along each axis from which any pixel can reach the answer at another one.

    Half of a window is filled with NaN, which passes through every operation that depends on it, whatever the weights.

    Args:
        network: In evaluation mode, from ``float (B, C, *S)`` to ``(B, 1, *S)``.
        shape: Of a window, in px.
        channels: Of its images.
        stride: Multiple that sides must have; how far the influence reaches may depend on the position within it.

    Returns:
        Radii in px, or ``None`` where influence reaches across half of the window along some axis.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    radii = []
    with torch.inference_mode(False), torch.no_grad():
        for axis, side in enumerate(shape):
            cut = side // 2 // stride * stride
            reaches = []
            for filled in (slice(0, cut), slice(cut, side)):
                window = torch.zeros(1, channels, *shape, device=device)
                window.movedim(axis + 2, 0)[filled] = torch.nan
                reaches.append(_reach(network(window)[0, 0], axis, cut, filled.start == 0))
            found = [reach for reach in reaches if reach is not None]
            if len(found) < 2:
                return None
            radii.append(min(side, max(found) + stride))
    return tuple(radii)


def _reach(answer: Tensor, axis: int, cut: int, from_start: bool) -> int | None:
    """Rows beyond the cut that NaN has entered; ``None`` if it has crossed all of them."""
    rows = answer.isnan().movedim(axis, 0).flatten(1).any(dim=1).nonzero().flatten()
    if from_start:
        reach = int(rows.max()) + 1 - cut
        return None if reach >= answer.shape[axis] - cut else max(0, reach)
    reach = cut - int(rows.min())
    return None if reach >= cut else max(0, reach)


def box_around(pixel: Sequence[int], radius: Sequence[int], shape: Sequence[int], stride: int = 1) -> tuple[slice, ...]:
    """The part of a window within ``radius`` px of a pixel, grown to multiples of ``stride`` and cut at the border.

    >>> box_around((5, 50), (8, 8), (64, 64), stride=16)
    (slice(0, 16, None), slice(32, 64, None))
    """
    return tuple(
        slice(
            max(0, (at - reach) // stride * stride),
            min(side, math.ceil((at + reach + 1) / stride) * stride),
        )
        for at, reach, side in zip(pixel, radius, shape, strict=True)
    )
