"""Checks of what the user gave, before any work begins."""

import math
from collections.abc import Sequence

import numpy as np

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.foreground_index import masks_of
from data_modules.grid import Shape
from data_modules.store import MosaicView
from data_modules.transforms import Augment
from data_modules.volume_augment import VolumeAugment

_LOOK_PX = 2**22
"""Pixels that are read at once while foreground is looked for; few, as it mostly is in the first of them."""


def positive(**values: int | Sequence[int] | None) -> None:
    """Refuse counts and sizes below 1, by name; ``None`` stands for a default."""
    for name, value in values.items():
        if value is not None and min(np.atleast_1d(value), default=0) < 1:
            raise UserError(f"data.{name} must be at least 1, got {value}")


def fractions(**values: float) -> None:
    """Refuse fractions outside ``[0, 1)``, by name."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"data.{name} must be at least 0 and below 1, got {value}")


def foreground_or_classes(foreground: Sequence[str | int] | None, classes: Sequence[str] | None) -> None:
    """Refuse both at once, and classes of which there is nothing to tell apart."""
    if foreground and classes:
        raise UserError(
            "data.foreground makes one foreground of classes, data.classes tells them apart: pass one of them"
        )
    if classes is not None and not 2 <= len(classes) < 255:
        raise UserError(f"data.classes must name the background and 1 to 253 more classes, got {list(classes)}")


def suits_patches(augment: Augment | VolumeAugment | None, axes: int) -> None:
    """Refuse an augmentation of patches of another number of axes."""
    if augment is None or augment.axes == axes:
        return
    kind = f"{type(augment).__module__}.{type(augment).__name__}"
    if axes == 3:
        raise UserError(
            f"data.augment {kind} works on 2D patches, not on volumes: pass data_modules.volume_augment.VolumeAugment, "
            "leave it out, or pass --data.planes xy"
        )
    raise UserError(
        f"data.augment {kind} works on volumes, not on 2D patches: pass data_modules.transforms.Augment, leave it out, "
        "or train on volumes, without data.planes"
    )


def large_enough(mosaics: Sequence[MosaicView], size: Shape, allowed: bool) -> None:
    """Refuse mosaics smaller than a training patch, unless ``allowed``."""
    small = [m for m in mosaics if any(side < extent for side, extent in zip(m.shape, size, strict=True))]
    if small and not allowed:
        listed = ", ".join(f"{mosaic.key} {mosaic.shape}" for mosaic in small[:5])
        thin = min((mosaic.shape[0] for mosaic in small if len(size) == 3), default=size[0])
        depth = f" (of {size[0]} sections, but one of them has a depth of {thin})" if thin < size[0] else ""
        raise UserError(
            f"{len(small)} training mosaics are smaller than a patch of {size} px{depth}: {listed}. "
            "Lower data.patch_size, or pass --data.allow_small true to train on mirrored padding"
        )


def has_foreground(mosaics: Sequence[MosaicView], allowed: bool) -> None:
    """Refuse training masks without any foreground, unless ``allowed``.

    The counts that conversion recorded are used; labels of foreign stores, which have none, are not read for this.
    Windows, whose mosaics may have foreground elsewhere, are read from their beginning up to the first of it.
    """
    empty = [] if allowed else [mosaic.key for mosaic in mosaics if _is_empty(mosaic)]
    if empty:
        raise UserError(
            f"no foreground at all in the masks of {', '.join(empty[:5])}: check --foreground dark|bright of the "
            "conversion, or pass --data.allow_empty true if these mosaics are meant to have none"
        )


def _is_empty(mosaic: MosaicView) -> bool:
    if mosaic.mask is None or mosaic.mask.info is None or not mosaic.mask.info.counts:
        return False
    counts = mosaic.mask.info.counts
    if not sum(counts.get(value, 0) for value in mosaic.foreground):
        return True
    return math.prod(mosaic.shape) < math.prod(mosaic.mask.shape) and not any(
        ((mask != 0) & (mask != IGNORE)).any() for _, mask in masks_of(mosaic, _LOOK_PX)
    )
