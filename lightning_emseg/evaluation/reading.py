"""Saved predictions and truths, brought to quantised probabilities and masks of one polarity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.evaluation.pairs import Pair
from lightning_emseg.evaluation.sources import Kind, Pixels, ScoredImage
from lightning_emseg.metrics.pixels import LEVELS, Counts, truth_histogram
from lightning_emseg.scoring.label_images import refuse_labels

_NEAR = 1 / 8
"""How far from an extreme a noisy value may be, as a share of the range; JPEG leaves 1/32."""
_MOST_BETWEEN = 0.01
"""Share of pixels that may be farther from both, for antialiased edges."""
_FEW = 8
"""Values up to which those off the extremes are classes and no noise."""
_TOPS = (1, 255, 65535)


def two_values(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Bright pixels of a mask that has no values but 0 and 1, or 0 and 255, or 0 and 65535.

    Args:
        pixels: Any shape and real type.

    Returns:
        ``bool`` of the same shape, or ``None`` if this is no mask.

    >>> two_values(np.array([0, 255, 255], np.uint8))
    array([False,  True,  True])
    >>> two_values(np.array([0, 3, 1], np.uint8)) is None
    True
    """
    lowest, highest = pixels.min(), pixels.max()
    if lowest not in (0, *_TOPS) or highest not in (0, *_TOPS):
        return None
    bright: NDArray[np.bool_] = pixels == max(highest, 1)
    dark = pixels == 0
    return bright if (bright | dark).all() else None


def nearly_two_values(pixels: Pixels) -> NDArray[np.bool_] | None:
    """The same where JPEG has left noise: of whole numbers, up to 1 % may be far from both extremes.

    Args:
        pixels: Any shape and real type.

    Returns:
        ``bool`` of the same shape, or ``None`` if this is no mask.
    """
    exact = two_values(pixels)
    if exact is not None or pixels.dtype not in (np.uint8, np.uint16):
        return exact
    lowest, highest = pixels.min(), pixels.max()
    top = 255 if highest <= 255 else 65535
    if lowest > top * (1 - _NEAR):
        return np.ones(pixels.shape, bool)
    counts = np.bincount(pixels.ravel(), minlength=top + 1)
    # Dark values alone may be classes as well.
    if highest < top / 2 or np.count_nonzero(counts) <= _FEW:
        return None
    between = counts[int(top * _NEAR) + 1 : int(top * (1 - _NEAR)) + 1].sum()
    return pixels > top / 2 if between <= _MOST_BETWEEN * pixels.size else None


def is_mask_with_ignored(pixels: Pixels) -> bool:
    """Whether the values are those of the store: all of 0, 1 and 255, and no others.

    >>> is_mask_with_ignored(np.array([0, 1, 255, 0]))
    True
    >>> is_mask_with_ignored(np.array([0, 255]))
    False
    """
    if pixels.dtype.kind not in "iu" or pixels.max() != IGNORE:
        return False
    zero, one = pixels == 0, pixels == 1
    return bool(zero.any() and one.any() and (zero | one | (pixels == IGNORE)).all())


Polarity = Literal["bright", "dark"]
GivenPolarity = Literal["auto", "bright", "dark"]
CLEAR = 0.7
"""Share of pixels from which on one brightness is certain to be background; membranes are 5 to 25 % of a section."""


class SidePolarity:
    """Polarity of one side, which all of its images have to share.

    Args:
        side: ``prediction`` or ``truth``, as the option names it.
        given: By the user; ``auto`` to take the majority of every image for background.
    """

    def __init__(self, side: str, given: GivenPolarity) -> None:
        self._side, self._given = side, given
        self._shares: list[float] = []
        self._found: Polarity | None = None
        self._normalised = False

    def of(self, bright_share: float, normalised: bool, what: str) -> Polarity:
        """Polarity of one image.

        Args:
            bright_share: Share of its pixels that are bright, 0–1.
            normalised: Whether foreground is known to be bright.
            what: File or sample, for messages.

        Raises:
            UserError: if neither brightness is a clear majority, two images differ, or the store knows better.
        """
        if normalised:
            return self._known(what)
        if self._given != "auto":
            return self._given
        if 1 - CLEAR < bright_share < CLEAR:
            raise UserError(
                f"{what}: {bright_share:.0%} of the pixels are bright, which does not tell whether membranes are "
                f"bright or dark: pass --{self._side}-polarity bright or dark"
            )
        found: Polarity = "dark" if bright_share >= CLEAR else "bright"
        if self._found not in (None, found):
            raise UserError(
                f"{what}: membranes seem to be {found}, but {self._found} in the images before: save all of them "
                f"alike, or pass --{self._side}-polarity {self._found} if the majority here is membrane"
            )
        self._found = found
        self._shares.append(bright_share)
        return found

    def _known(self, what: str) -> Polarity:
        if self._given == "dark":
            raise UserError(
                f"{what}: stores have bright foreground always: leave out --{self._side}-polarity dark, or convert "
                "the store again with another --foreground if it is inverted"
            )
        self._normalised = True
        return "bright"

    @property
    def polarity(self) -> Polarity | None:
        """What all images so far have; ``None`` before the first."""
        if self._normalised:
            return "bright"
        return self._found if self._given == "auto" else self._given

    @property
    def said(self) -> str:
        """A sentence on what is taken, and why."""
        start = f"{self._side}: membranes are {self.polarity}"
        if self._normalised:
            return f"{start} (as in every store)"
        if self._given != "auto":
            return f"{start} (given)"
        low, high = min(self._shares), max(self._shares)
        span = f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"
        return f"{start} (detected: {span} of the pixels are bright, and the majority is background)"


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


def read_prediction(source: ScoredImage) -> Map:
    """Read a probability map or mask.

    Floating point has to be 0–1. Whole numbers of 8 or 16 bits stand for the share of their range; two values (0 and
    1, 255 or 65535) make a mask.

    Raises:
        UserError: if the file is damaged, or holds NaN, values outside 0–1, or labels.
    """
    return _PREDICTIONS[source.kind](source.read(), source.what)


def read_truth(source: ScoredImage) -> Truth:
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


_COUNTED_ROWS = 2048
"""Rows counted at a time: a histogram needs 10 bytes a pixel meanwhile."""


@dataclass(frozen=True)
class LoadedPair:
    """Foreground is membrane, whatever the polarity was.

    Attributes:
        truth: ``uint8 (*S)``: 0 background, 1 foreground, 255 for what counts nowhere.
        probability: ``uint8 (*S)``; 255 is certain foreground.
        noisy_truth: ``uint8 (*S)``; 255 is surely foreground. ``None`` where the truth has no noise.
        binary: Whether the prediction has two values only.
        unpredicted: Number of pixels that are ignored because the prediction marks them so.
    """

    truth: Grey
    probability: Grey
    noisy_truth: Grey | None
    binary: bool
    unpredicted: int

    @property
    def truth_grey(self) -> Grey:
        """``uint8 (*S)``: 255 foreground, 0 background and ignored, with the noise that the truth's file has."""
        if self.noisy_truth is None:
            return np.where(self.truth == 1, np.uint8(255), np.uint8(0))
        return np.where(self.truth == IGNORE, np.uint8(0), self.noisy_truth)

    def counts(self) -> Counts:
        """Histogram ``int64 (2, 256)`` of :func:`~lightning_emseg.metrics.pixels.truth_histogram`."""
        total = np.zeros((2, LEVELS), np.int64)
        for start in range(0, len(self.truth), _COUNTED_ROWS):
            total += truth_histogram(
                self.probability[start : start + _COUNTED_ROWS], self.truth[start : start + _COUNTED_ROWS]
            )
        return total


class PairReader:
    """Reads pairs one by one and finds out, or checks, their polarity.

    Args:
        prediction: Polarity of the predictions.
        truth: Polarity of the truths.
    """

    def __init__(self, prediction: SidePolarity, truth: SidePolarity) -> None:
        self.polarities: Sequence[SidePolarity] = (prediction, truth)

    def read(self, pair: Pair) -> LoadedPair:
        """Read both images of a pair.

        Raises:
            UserError: if one of them cannot be used; the message names it.
        """
        of_prediction, of_truth = self.polarities
        truth = read_truth(pair.truth)
        truth_polarity = of_truth.of(_share(truth), truth.normalised, pair.truth.what)
        found = read_prediction(pair.prediction)
        share = float((found.bright >= LEVELS // 2).mean())
        polarity = of_prediction.of(share, found.normalised, pair.prediction.what)
        probability = found.bright if polarity == "bright" else ~found.bright
        labels = truth.bright if truth_polarity == "bright" else _SWAPPED.take(truth.bright)
        labels, unpredicted = _without_unknown(labels, found, pair)
        noisy = truth.grey if truth.grey is None or truth_polarity == "bright" else ~truth.grey
        return LoadedPair(labels, probability, noisy, found.binary, unpredicted)


_SWAPPED = np.arange(LEVELS, dtype=np.uint8)
_SWAPPED[:2] = 1, 0


def _share(truth: Truth) -> float:
    bright = np.count_nonzero(truth.bright == 1)
    return bright / (bright + np.count_nonzero(truth.bright == 0))


def _without_unknown(labels: Grey, found: Map, pair: Pair) -> tuple[Grey, int]:
    if found.unknown is None:
        return labels, 0
    both = np.where(found.unknown, np.uint8(IGNORE), labels)
    if (both == IGNORE).all():
        raise UserError(f"{pair.prediction.what} is ignored (255) wherever its truth is known: nothing can be scored")
    return both, int(np.count_nonzero(found.unknown & (labels != IGNORE)))
