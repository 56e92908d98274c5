"""Checks of what the user gave, before any work begins."""

from collections.abc import Sequence

import numpy as np

from data_modules.errors import UserError
from data_modules.grid import Shape
from data_modules.store import MosaicView


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


def large_enough(mosaics: Sequence[MosaicView], size: Shape, allowed: bool) -> None:
    """Refuse mosaics smaller than a training patch, unless ``allowed``."""
    small = [m for m in mosaics if any(side < extent for side, extent in zip(m.shape, size, strict=True))]
    if small and not allowed:
        listed = ", ".join(f"{mosaic.key} {mosaic.shape}" for mosaic in small[:5])
        raise UserError(
            f"{len(small)} training mosaics are smaller than a patch of {size} px: {listed}. "
            "Lower data.patch_size, or pass --data.allow_small true to train on mirrored padding"
        )


def has_foreground(mosaics: Sequence[MosaicView], allowed: bool) -> None:
    """Refuse training masks without any foreground, unless ``allowed``.

    The counts that conversion recorded are used; labels of foreign stores, which have none, are not read for this.
    """
    empty = []
    for mosaic in mosaics:
        counts = {} if mosaic.mask is None or mosaic.mask.info is None else mosaic.mask.info.counts
        if counts and not sum(counts.get(value, 0) for value in mosaic.foreground):
            empty.append(mosaic.key)
    if empty and not allowed:
        raise UserError(
            f"no foreground at all in the masks of {', '.join(empty[:5])}: check --foreground dark|bright of the "
            "conversion, or pass --data.allow_empty true if these mosaics are meant to have none"
        )
