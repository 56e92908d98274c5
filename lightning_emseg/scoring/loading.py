"""A pair in memory, in the one form that every score is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.metrics.histogram import LEVELS, Counts, truth_histogram
from lightning_emseg.scoring.pairs import Pair
from lightning_emseg.scoring.polarity import SidePolarity
from lightning_emseg.scoring.reading import Grey, Map, Truth, read_prediction, read_truth

_BAND = 2048
"""Rows counted at a time: a histogram needs 10 bytes a pixel meanwhile."""


@dataclass(frozen=True)
class Loaded:
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
        """Histogram ``int64 (2, 256)`` of :func:`~lightning_emseg.metrics.histogram.truth_histogram`."""
        total = np.zeros((2, LEVELS), np.int64)
        for start in range(0, len(self.truth), _BAND):
            total += truth_histogram(self.probability[start : start + _BAND], self.truth[start : start + _BAND])
        return total


class PairReader:
    """Reads pairs one by one and finds out, or checks, their polarity.

    Args:
        prediction: Polarity of the predictions.
        truth: Polarity of the truths.
    """

    def __init__(self, prediction: SidePolarity, truth: SidePolarity) -> None:
        self.polarities: Sequence[SidePolarity] = (prediction, truth)

    def read(self, pair: Pair) -> Loaded:
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
        return Loaded(labels, probability, noisy, found.binary, unpredicted)


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
