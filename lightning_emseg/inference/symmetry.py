"""Test-time augmentation: the mean over the symmetries of the square."""

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


def averaged(predict: Callable[[Tensor], Tensor], image: Tensor, kind: Views) -> Tensor:
    """Mean of the probabilities that ``predict`` gives for the transformed images, each turned back.

    Blending is linear, so averaging each tile and then blending is the same as stitching one map for every symmetry
    from the same tiles and averaging the maps; thresholds come after both.

    Args:
        predict: From images ``(B, C, [Z,] Y, X)`` to probabilities ``(B, [Z,] Y, X)``.
        image: In either memory format, which ``predict`` sees kept. Volumes are turned in their plane.
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
