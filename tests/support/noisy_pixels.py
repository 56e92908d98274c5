"""Probabilities of known pixels, seen through noise, for tests of pixel scores."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.pixels import truth_histogram

Pixels = NDArray[np.uint8]


def noisy_pair(seed: int, size: int = 3000, ignored: float = 0.1) -> tuple[Pixels, Pixels]:
    """Probability and truth, a fifth of it foreground."""
    random = np.random.default_rng(seed)
    truth = (random.random(size) < 0.2).astype(np.uint8)
    probability = np.clip(random.normal(90 + 60 * truth, 40), 0, 255).astype(np.uint8)
    truth[random.random(size) < ignored] = 255
    return probability, truth


def as_pair(pixels: Iterable[tuple[int, int]]) -> tuple[Pixels, Pixels]:
    """Probability and truth of pixels given one by one."""
    probability, truth = zip(*pixels, strict=True)
    return np.array(probability, np.uint8), np.array(truth, np.uint8)


def noisy_mosaics(count: int) -> list[tuple[Pixels, Pixels]]:
    """Probability and truth of mosaics of several sizes, whose best thresholds differ."""
    random = np.random.default_rng(5)
    made = []
    for index in range(count):
        truth = (random.random(400 + 300 * index) < 0.1 + 0.1 * index).astype(np.uint8)
        made.append((np.clip(random.normal(80 + 20 * index + 70 * truth, 30), 0, 255).astype(np.uint8), truth))
    return made


def histograms(mosaics: Iterable[tuple[Pixels, Pixels]]) -> NDArray[np.int64]:
    """Counts ``(mosaics, 2, 256)``."""
    return np.stack([truth_histogram(*mosaic) for mosaic in mosaics])
