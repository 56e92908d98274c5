"""Saved predictions and truths, brought to the one form that every score is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.images.masks import MAX_BETWEEN, share_between, value_counts
from lightning_emseg.evaluation.sources import ClassValues, Pair, Pixels, ScoredImage

Grey = NDArray[np.uint8]
Polarity = Literal["bright", "dark"]
GivenPolarity = Literal["auto", "bright", "dark"]
_BAND = 1024
"""Rows converted at a time, so that copies in floating point stay small."""
_CLEAR = 0.7
"""Share of pixels from which on one brightness is certain to be background; membranes are 5 to 25 % of a section."""
_UNKNOWN = 254
"""Mark in tables of classes, of which there are fewer."""

_FEW = 8
"""Values up to which those off the extremes are classes and no noise."""


def two_values(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Find the bright pixels of a mask that has no values but 0 and 1, or 0 and 255, or 0 and 65535.

    Args:
        pixels: Any shape and real type.

    Returns:
        ``bool`` of the same shape, or ``None`` if this is no mask.

    >>> two_values(np.array([0, 255, 255], np.uint8))
    array([False,  True,  True])
    >>> two_values(np.array([0, 3, 1], np.uint8)) is None
    True
    """
    extremes = (0, 1, 255, 65535)
    highest = pixels.max()
    if pixels.min() not in extremes or highest not in extremes:
        return None
    bright: NDArray[np.bool_] = pixels == max(highest, 1)
    return bright if (bright | (pixels == 0)).all() else None


def nearly_two_values(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Find the bright pixels of a mask with JPEG's noise: of whole numbers, up to 1 % may be far from both extremes.

    Args:
        pixels: Any shape and real type.

    Returns:
        ``bool`` of the same shape, or ``None`` if this is no mask.
    """
    exact = two_values(pixels)
    if exact is not None or pixels.dtype not in (np.uint8, np.uint16):
        return exact
    values, counts = value_counts(pixels)
    top = 255 if values[-1] <= 255 else 65535
    share = share_between(values, counts, top)
    if values[0] > top / 2 and share == 0:
        return np.ones(pixels.shape, bool)
    # Dark values alone may be classes as well.
    if values[-1] < top / 2 or len(values) <= _FEW:
        return None
    return pixels > top / 2 if share <= MAX_BETWEEN else None


def is_mask_with_ignored(pixels: Pixels) -> bool:
    """Check whether the values are those of the store: all of 0, 1 and 255, and no others.

    >>> is_mask_with_ignored(np.array([0, 1, 255, 0]))
    True
    >>> is_mask_with_ignored(np.array([0, 255]))
    False
    """
    if pixels.dtype.kind not in "iu" or pixels.max() != IGNORE:
        return False
    zero, one = pixels == 0, pixels == 1
    return bool(zero.any() and one.any() and (zero | one | (pixels == IGNORE)).all())


_LABEL_VALUES = 16
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
    highest, kind = pixels.max(), ""
    if pixels.dtype.kind == "f":
        if highest > 1 and (pixels == np.rint(pixels)).all():
            kind = "whole numbers in floating point"
    elif highest > 65535:
        kind = "numbers of more than 16 bits"
    elif highest < _LABEL_VALUES:
        kind = f"small whole numbers up to {highest}"
    elif _has_areas(pixels, 255 if pixels.dtype == np.uint8 else 65535):
        kind = "areas of equal whole numbers"
    if kind:
        raise UserError(
            f"{what} seems to hold labels ({kind}), but a prediction is a probability or a mask: save probabilities as "
            "floating point from 0 to 1, or 0 to 255 in 8 bits, or make a mask of 0 and 255 of the labels' borders"
        )


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


class SidePolarity:
    """Polarity of one side, which all of its images have to share.

    Args:
        side: ``prediction`` or ``truth``, as the option names it.
        given: Polarity that the user gave; ``auto`` to take the majority of every image for background.

    Attributes:
        polarity: Polarity of all images so far; ``None`` before the first, unless it is given.
    """

    def __init__(self, side: str, given: GivenPolarity = "auto") -> None:
        self._side, self._given = side, given
        self._shares: list[float] = []
        self._normalised = False
        self.polarity: Polarity | None = None if given == "auto" else given

    def of(self, bright_share: float, normalised: bool, what: str) -> Polarity:
        """Find the polarity of one image.

        Args:
            bright_share: Share of its pixels that are bright, 0–1.
            normalised: Whether foreground is known to be bright.
            what: File or sample, for messages.

        Raises:
            UserError: if neither brightness is a clear majority, two images differ, or the store knows better.
        """
        if normalised:
            if self._given == "dark":
                raise UserError(
                    f"{what}: stores have bright foreground always: leave out --{self._side}-polarity dark, or "
                    "convert the store again with another --foreground if it is inverted"
                )
            self._normalised, self.polarity = True, "bright"
            return "bright"
        if self._given != "auto":
            return self._given
        if 1 - _CLEAR < bright_share < _CLEAR:
            raise UserError(
                f"{what}: {bright_share:.0%} of the pixels are bright, which does not tell whether membranes are "
                f"bright or dark: pass --{self._side}-polarity bright or dark"
            )
        found: Polarity = "dark" if bright_share >= _CLEAR else "bright"
        if self._shares and self.polarity != found:
            raise UserError(
                f"{what}: membranes seem to be {found}, but {self.polarity} in the images before: save all of them "
                f"alike, or pass --{self._side}-polarity {self.polarity} if the majority here is membrane"
            )
        self.polarity = found
        self._shares.append(bright_share)
        return found

    @property
    def said(self) -> str:
        """Sentence on the polarity, and why."""
        start = f"{self._side}: membranes are {self.polarity}"
        if self._normalised:
            return f"{start} (as in every store)"
        if self._given != "auto":
            return f"{start} (given)"
        low, high = min(self._shares), max(self._shares)
        span = f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"
        return f"{start} (detected: {span} of the pixels are bright, and the majority is background)"


@dataclass(frozen=True)
class SavedMap:
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
class SavedTruth:
    """A truth as it was saved, before it is known whether membranes are bright.

    Attributes:
        bright: ``uint8 (*S)``: 1 bright, 0 dark, 255 ignored.
        grey: ``uint8 (*S)``, the noisy values themselves, 0–255; ``None`` where there is no noise.
        normalised: Whether bright is certain to mean foreground.
    """

    bright: Grey
    grey: Grey | None = None
    normalised: bool = False


def read_prediction(source: ScoredImage) -> SavedMap:
    """Read a probability map or mask.

    Floating point has to be 0–1. Whole numbers of 8 or 16 bits stand for the share of their range; two values (0 and
    1, 255 or 65535) make a mask.

    Raises:
        UserError: if the file is damaged, or holds NaN, values outside 0–1, or labels.
    """
    pixels, what = source.read(), source.what
    if source.kind == "probability":
        return SavedMap(pixels, binary=False, normalised=True)
    if source.kind == "file":
        _refuse_other_types(pixels, what)
    if source.kind == "label" or is_mask_with_ignored(pixels):
        unknown = pixels == IGNORE
        bright = np.where(pixels == 1, np.uint8(255), np.uint8(0))
        return SavedMap(bright, True, source.kind == "label", unknown if unknown.any() else None)
    mask = two_values(pixels)
    if mask is not None:
        return SavedMap(mask.view(np.uint8) * np.uint8(255), binary=True)
    if pixels.min() >= 0:
        refuse_labels(pixels, what)
    return SavedMap(_quantised(pixels, what), binary=False)


def read_truth(source: ScoredImage) -> SavedTruth:
    """Read a mask of two values; 0, 1 and 255 together are background, foreground and ignored.

    Noise as JPEG leaves it is taken for the nearer extreme.

    Raises:
        UserError: if the file is damaged, is no mask, or is ignored everywhere.
    """
    pixels, what = source.read(), source.what
    if source.kind == "label":
        _refuse_ignored(pixels, what)
        return SavedTruth(pixels, normalised=True)
    _refuse_other_types(pixels, what)
    if is_mask_with_ignored(pixels):
        return SavedTruth(pixels.astype(np.uint8))
    exact = two_values(pixels)
    if exact is not None:
        return SavedTruth(exact.view(np.uint8))
    bright = nearly_two_values(pixels)
    if bright is None:
        raise UserError(
            f"{what} is no mask of two values but goes from {pixels.min():g} to {pixels.max():g}: a truth has 0 and 1, "
            "or 0 and 255 (make classes a mask of the one that is scored); or are prediction and truth swapped?"
        )
    return SavedTruth(bright.view(np.uint8), pixels if pixels.dtype == np.uint8 else None)


@dataclass(frozen=True)
class LoadedPair:
    """A pair in memory, with bright foreground whatever the polarity was.

    Attributes:
        truth: ``uint8 (*S)``: 0 background, 1 foreground, or positions of classes; 255 for what counts nowhere.
        found: ``uint8 (*S)``: probability, 255 for certain foreground, or positions of classes.
        unpredicted: Number of pixels that are ignored because the prediction marks them so.
        binary: Whether the prediction has two values only.
        noisy_truth: ``uint8 (*S)``; 255 is surely foreground. ``None`` where the truth has no noise.
    """

    truth: Grey
    found: Grey
    unpredicted: int
    binary: bool = False
    noisy_truth: Grey | None = None


class PairReader:
    """Reader of pairs, which finds out, or checks, the polarity of both sides.

    Args:
        classes: Names of all classes, the background first; empty for one foreground.
        prediction: Polarity of the predictions of one foreground.
        truth: Polarity of the truths.
    """

    def __init__(
        self, classes: Sequence[str] = (), prediction: GivenPolarity = "auto", truth: GivenPolarity = "auto"
    ) -> None:
        self._classes = tuple(enumerate(classes))
        self.prediction, self.truth = SidePolarity("prediction", prediction), SidePolarity("truth", truth)

    def read(self, pair: Pair) -> LoadedPair:
        """Read both images of a pair.

        Raises:
            UserError: if one of them cannot be used; the message names it.
        """
        what = pair.prediction.what
        if self._classes:
            values = pair.truth.classes or self._classes
            labels, positions = _positions(pair.truth, values), _positions(pair.prediction, values)
            _refuse_ignored(labels, pair.truth.what)
            return LoadedPair(*_without_unknown(labels, positions, positions == IGNORE, what))
        truth = read_truth(pair.truth)
        bright, dark = (int(np.count_nonzero(truth.bright == value)) for value in (1, 0))
        truth_polarity = self.truth.of(bright / (bright + dark), truth.normalised, pair.truth.what)
        saved = read_prediction(pair.prediction)
        polarity = self.prediction.of(float((saved.bright >= 128).mean()), saved.normalised, what)
        probability = saved.bright if polarity == "bright" else ~saved.bright
        labels, noisy = truth.bright, truth.grey
        if truth_polarity == "dark":
            labels = np.where(labels == IGNORE, labels, 1 - labels)
            noisy = None if noisy is None else ~noisy
        unknown = np.zeros(1, bool) if saved.unknown is None else saved.unknown
        return LoadedPair(*_without_unknown(labels, probability, unknown, what), saved.binary, noisy)


def _without_unknown(labels: Grey, found: Grey, unknown: NDArray[np.bool_], what: str) -> tuple[Grey, Grey, int]:
    """Ignore and count the pixels that the prediction does not know; returns truth, prediction and their number."""
    unpredicted = int(np.count_nonzero(unknown & (labels != IGNORE)))
    if unpredicted:
        labels = np.where(unknown, np.uint8(IGNORE), labels)
        if (labels == IGNORE).all():
            raise UserError(f"{what} is ignored (255) wherever its truth is known: nothing can be scored")
    return labels, found, unpredicted


def _refuse_ignored(labels: Grey, what: str) -> None:
    if (labels == IGNORE).all():
        raise UserError(
            f"{what} is ignored everywhere (255), so nothing can be scored: check how it was converted, or "
            "leave it out with --samples"
        )


def _positions(source: ScoredImage, values: ClassValues) -> Grey:
    """Read positions of classes; a store's label declares its values."""
    pixels, what = source.read(), source.what
    if source.classes:
        return pixels
    if pixels.dtype.kind not in "biu":
        raise UserError(
            f"{what} holds {pixels.dtype} values, but classes are whole numbers: save the number of each pixel's class "
            "in 8 bits; probabilities of one foreground are scored without --classes"
        )
    table = np.full(256, _UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[[value for value, _ in values]] = np.arange(len(values), dtype=np.uint8)
    outside = (pixels < 0) | (pixels > IGNORE)
    found: Grey = np.where(outside, np.uint8(_UNKNOWN), table[pixels.astype(np.uint8)])
    if (found == _UNKNOWN).any():
        unknown = np.unique(pixels[found == _UNKNOWN])[:6].tolist()
        raise UserError(
            f"{what} has the values {unknown}, but the classes are {dict(values)} (255 is ignored): save the number of "
            "each pixel's class, or name all classes in the order of their numbers with --classes"
        )
    return found


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
    low, high, whole = pixels.min(), pixels.max(), pixels.dtype.kind in "iu"
    if low < 0 or (high > 1 and not whole):
        advice = "they may be logits, to which the sigmoid belongs" if low < 0 else "divide them by their largest value"
        raise UserError(
            f"{what} has values from {low:g} to {high:g}, but probabilities are 0–1: {advice}, and save again"
        )
    if whole and high <= 255:
        raise UserError(
            f"{what} has {pixels.dtype} values up to {high} only, which may stand for {high / 255:.2f} or for "
            f"{high / 65535:.4f}: save it in 8 bits, or as floating point from 0 to 1"
        )
    # Single precision where the network's own output was rounded so, or both would not fall on the same level.
    single = pixels.dtype in (np.float16, np.float32)
    factor = np.array(255 / (65535 if whole else 1), np.float32 if single else np.float64)
    quantised = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _BAND):
        quantised[start : start + _BAND] = np.rint(pixels[start : start + _BAND] * factor)
    return quantised
