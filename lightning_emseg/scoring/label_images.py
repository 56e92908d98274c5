"""Recognising label images where probabilities are expected: both are whole numbers in a file."""

import numpy as np

from data_modules.errors import UserError
from lightning_emseg.evaluation.sources import Pixels

_FEW = 16
"""Values that classes may have; a probability whose maximum is 15 of 255 finds nothing."""
_ROWS = 4096
"""Rows that are looked at, at most."""
_EQUAL = 0.8
"""Share of neighbours inside a label that are equal; cells of 20 px have 0.95, maps quantised to 16 levels 0.5."""
_STEP = 2.0
"""Mean step between unequal neighbours; smooth maps have 1, ids are as good as random."""


def refuse_labels(pixels: Pixels, what: str) -> None:
    """Refuse classes and ids of instances.

    These are integers above 16 bits, integers with a maximum below 16, floating point with whole numbers above 1, and
    integers whose neighbours are equal, or else far apart.

    Args:
        pixels: ``(*S)``, finite, not negative, more than two values.
        what: File, for the message.

    Raises:
        UserError: if it looks like labels.
    """
    kind = _of_floats(pixels) if pixels.dtype.kind == "f" else _of_integers(pixels)
    if kind:
        raise UserError(
            f"{what} seems to hold labels ({kind}), but a prediction is a probability or a mask: save probabilities as "
            "floating point from 0 to 1, or 0 to 255 in 8 bits, or make a mask of 0 and 255 of the labels' borders"
        )


def _of_floats(pixels: Pixels) -> str:
    whole = pixels.max() > 1 and bool((pixels == np.rint(pixels)).all())
    return "whole numbers in floating point" if whole else ""


def _of_integers(pixels: Pixels) -> str:
    highest = int(pixels.max())
    if highest > np.iinfo(np.uint16).max:
        return "numbers of more than 16 bits"
    if highest < _FEW:
        return f"small whole numbers up to {highest}"
    return "areas of equal whole numbers" if _has_areas(pixels, 255 if pixels.dtype == np.uint8 else 65535) else ""


def _has_areas(pixels: Pixels, top: int) -> bool:
    rows = pixels.reshape(-1, pixels.shape[-1])
    rows = rows[:: -(-len(rows) // _ROWS)].astype(np.int32)
    if top > 255 and not (rows % 257).any():
        rows //= 257  # 8 bits saved as 16
    left, right = rows[:, :-1], rows[:, 1:]
    # Probabilities have areas of 0 and of the maximum too.
    step = np.abs(left - right)[(left > 0) & (left < rows.max())]
    unequal = step[step > 0]
    return bool(len(unequal) and (step == 0).mean() > _EQUAL and unequal.mean() >= _STEP)
