"""Bringing whatever was saved to the two forms that scores are made of: quantised probability, and mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.scoring.label_images import refuse_labels
from lightning_emseg.scoring.sources import Kind, Pixels, Source
from lightning_emseg.scoring.two_values import is_mask_with_ignored, nearly_two_values, two_values

Grey = NDArray[np.uint8]
_BAND = 1024
"""Rows converted at a time, so that copies in floating point stay small."""


@dataclass(frozen=True)
class Map:
    """A prediction as it was saved, before it is known whether membranes are bright.

    Attributes:
        bright: ``uint8 (*S)``: 255 certainly bright, 0 certainly dark.
        binary: Whether it has two values only, so that no threshold matters.
        normalised: Whether bright is certain to mean foreground.
        unknown: ``bool (*S)``, pixels without a prediction; ``None`` if there are none.
    """

    bright: Grey
    binary: bool
    normalised: bool = False
    unknown: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Truth:
    """A truth as it was saved, before it is known whether membranes are bright.

    Attributes:
        bright: ``uint8 (*S)``: 1 bright, 0 dark, 255 ignored.
        grey: ``uint8 (*S)``, the noisy values themselves, 0–255; ``None`` where there is no noise.
        normalised: Whether bright is certain to mean foreground.
    """

    bright: Grey
    grey: Grey | None = None
    normalised: bool = False


def read_prediction(source: Source) -> Map:
    """Read a probability map or mask.

    Floating point has to be 0–1. Whole numbers of 8 or 16 bits stand for the share of their range; two values (0 and
    1, 255 or 65535) make a mask.

    Raises:
        UserError: if the file is damaged, or holds NaN, values outside 0–1, or labels.
    """
    return _PREDICTIONS[source.kind](source.read(), source.what)


def read_truth(source: Source) -> Truth:
    """Read a mask of two values; 0, 1 and 255 together are background, foreground and ignored.

    Noise as JPEG leaves it is taken for the nearer extreme.

    Raises:
        UserError: if the file is damaged, is no mask, or is ignored everywhere.
    """
    truth = _TRUTHS[source.kind](source.read(), source.what)
    if (truth.bright == IGNORE).all():
        raise UserError(
            f"{source.what} is ignored everywhere (255), so nothing can be scored: check how it was converted, or "
            "leave it out with --samples"
        )
    return truth


def _stored_probability(pixels: Pixels, what: str) -> Map:
    return Map(pixels, binary=False, normalised=True)


def _stored_prediction_label(pixels: Pixels, what: str) -> Map:
    unknown = pixels == IGNORE
    bright = np.where(pixels == 1, np.uint8(255), np.uint8(0))
    return Map(bright, binary=True, normalised=True, unknown=unknown if unknown.any() else None)


def _stored_label(pixels: Pixels, what: str) -> Truth:
    return Truth(pixels, normalised=True)


def _prediction_file(pixels: Pixels, what: str) -> Map:
    _refuse_other_types(pixels, what)
    if is_mask_with_ignored(pixels):
        found = _stored_prediction_label(pixels, what)
        return Map(found.bright, binary=True, unknown=found.unknown)
    bright = two_values(pixels)
    if bright is not None:
        return Map(bright.view(np.uint8) * np.uint8(255), binary=True)
    if pixels.min() >= 0:
        refuse_labels(pixels, what)
    return Map(_quantised(pixels, what), binary=False)


def _truth_file(pixels: Pixels, what: str) -> Truth:
    _refuse_other_types(pixels, what)
    if is_mask_with_ignored(pixels):
        return Truth(pixels.astype(np.uint8))
    exact = two_values(pixels)
    if exact is not None:
        return Truth(exact.view(np.uint8))
    bright = nearly_two_values(pixels)
    if bright is None:
        raise UserError(
            f"{what} is no mask of two values but goes from {pixels.min():g} to {pixels.max():g}: a truth has 0 and 1, "
            "or 0 and 255 (make classes a mask of the one that is scored); or are prediction and truth swapped?"
        )
    return Truth(bright.view(np.uint8), pixels if pixels.dtype == np.uint8 else None)


_PREDICTIONS: Mapping[Kind, Callable[[Pixels, str], Map]] = {
    "file": _prediction_file,
    "label": _stored_prediction_label,
    "probability": _stored_probability,
}
_TRUTHS: Mapping[Kind, Callable[[Pixels, str], Truth]] = {"file": _truth_file, "label": _stored_label}


def _refuse_other_types(pixels: Pixels, what: str) -> None:
    if pixels.dtype.kind not in "biuf":
        raise UserError(f"{what} holds {pixels.dtype} values: save it as 8-bit integers, or floating point from 0 to 1")
    if pixels.dtype.kind == "f" and (wrong := int(np.count_nonzero(~np.isfinite(pixels)))):
        raise UserError(
            f"{what} has {wrong} pixels that are NaN or infinite, for which there is no score: predict it again, or "
            "give them a value from 0 to 1"
        )


def _quantised(pixels: Pixels, what: str) -> Grey:
    if pixels.dtype == np.uint8:
        return pixels
    top = _top(pixels, what)
    quantised = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _BAND):
        rows = pixels[start : start + _BAND]
        quantised[start : start + _BAND] = np.rint(rows * np.array(255 / top, _precision(rows)))
    return quantised


def _precision(rows: Pixels) -> np.dtype[Any]:
    # Single precision where the network's own output was rounded so, or both would not fall on the same level.
    return np.dtype(np.float32) if rows.dtype in (np.float16, np.float32) else np.dtype(np.float64)


def _top(pixels: Pixels, what: str) -> float:
    lo, hi, whole = pixels.min(), pixels.max(), pixels.dtype.kind in "iu"
    if lo < 0 or (hi > 1 and not whole):
        advice = "they may be logits, to which the sigmoid belongs" if lo < 0 else "divide them by their largest value"
        raise UserError(f"{what} has values from {lo:g} to {hi:g}, but probabilities are 0–1: {advice}, and save again")
    if whole and hi <= np.iinfo(np.uint8).max:
        raise UserError(
            f"{what} has {pixels.dtype} values up to {hi} only, which may stand for {hi / 255:.2f} or for "
            f"{hi / 65535:.4f}: save it in 8 bits, or as floating point from 0 to 1"
        )
    return np.iinfo(np.uint16).max if whole else 1
