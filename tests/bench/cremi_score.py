"""CREMI score, F1 and AUC of a volume as large as CREMI's, 125 × 1,250 × 1,250 voxels of 40 × 4 × 4 nm.

Clefts are discs at any angle, 0.5 % of all voxels; predicted ones are shifted, thicker or thinner, missed and invented.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from lightning_emseg.metrics import classes
from lightning_emseg.metrics.classes import CleftDistances
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.pixels import LEVELS, confusion_at, roc_auc, truth_histogram
from tests.bench.harness import Row, peak_of

SHAPE = (125, 1250, 1250)
SIZE_NM = (40.0, 4.0, 4.0)
SHARE = 0.005
LEVEL = 128
SECTIONS = 16
"""Those that scipy's transform is compared on."""

Pixels = NDArray[np.uint8]
Maps = tuple[Pixels, Pixels]
Random = np.random.Generator


def draw_disc(
    volume: Pixels, center: NDArray[np.float64], normal: NDArray[np.float64], radius: float, thick: float
) -> int:
    """Set the voxels of a disc to 1; center and lengths in nm. Returns how many were 0."""
    size = np.array(SIZE_NM)
    first = np.maximum(((center - radius - thick) / size).astype(int), 0)
    last = np.minimum(((center + radius + thick) / size).astype(int) + 2, volume.shape)
    box = volume[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    away = [np.arange(a, b) * s - c for a, b, s, c in zip(first, last, size, center, strict=True)]
    z, y, x = np.meshgrid(*away, indexing="ij", sparse=True)
    along = normal[0] * z + normal[1] * y + normal[2] * x
    disc = (np.abs(along) <= thick / 2) & (z * z + y * y + x * x - along * along <= radius * radius)
    fresh = int(np.count_nonzero(disc & (box == 0)))
    box[disc] = 1
    return fresh


def maps(share_found: float = 0.85) -> Maps:
    """Truth, and the probability map of a network that finds this share of the clefts."""
    random = np.random.default_rng(0)
    truth, found = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    extent = np.array(SHAPE) * SIZE_NM
    number = 0
    while number < SHARE * truth.size:
        center, normal = random.uniform(0, extent), random.normal(size=3)
        normal /= np.linalg.norm(normal)
        radius, thick = random.uniform(120, 320), random.uniform(25, 45)
        number += draw_disc(truth, center, normal, radius, thick)
        if random.random() > share_found:
            # Missed, and another one invented.
            center = random.uniform(0, extent)
        shifted = center + random.normal(0, 6, 3)
        draw_disc(found, shifted, normal, radius * random.uniform(0.8, 1.2), thick * random.uniform(0.7, 1.5))
    return truth, probability_of(found, random)


def probability_of(found: Pixels, random: Random) -> Pixels:
    """0–63 outside, 120–246 inside."""
    for section in found:
        noise = np.frombuffer(random.bytes(section.size), np.uint8).reshape(section.shape) >> 2
        section[:] = np.where(section == 1, 120 + 2 * noise, noise)
    return found


def scores(truth: Pixels, probability: Pixels) -> dict[str, float]:
    """CREMI's three distances, and F1 and AUC of histograms that are summed section by section."""
    counts = np.zeros((2, LEVELS), np.int64)
    for section, labels in zip(probability, truth, strict=True):
        counts += truth_histogram(section, labels)
    metric = CleftDistances()
    distances = dict(zip(metric.columns, metric.row(MosaicPair(truth, probability, LEVEL, SIZE_NM)), strict=True))
    return {**distances, "f1": float(confusion_at(counts, LEVEL).f1), "auc": float(roc_auc(counts))}


def of_good() -> None:
    """In a process of its own, so that its memory can be watched."""
    scores(*maps())


def of_bad() -> None:
    """Likewise, of a network that calls a fifth of the volume clefts."""
    truth, probability = maps()
    scores(truth, flooded(probability))


def of_none() -> None:
    """The maps alone."""
    maps()


def flooded(probability: Pixels) -> Pixels:
    """The same with a fifth of the volume above the threshold, as early in training."""
    probability[:, :, : SHAPE[2] // 5] |= LEVEL
    return probability


def timed(truth: Pixels, probability: Pixels) -> tuple[float, str, dict[str, float]]:
    """Seconds, those of the processor in words, and scores."""
    start, busy = time.perf_counter(), time.process_time()
    found = scores(truth, probability)
    return time.perf_counter() - start, f"{time.process_time() - busy:.1f} s of a core", found


def rows(scratch: Path) -> Iterator[Row]:
    """Seconds and memory of good and bad predictions, by either way, and agreement with scipy."""
    truth, probability = maps()
    seconds, busy, found = timed(truth, probability)
    share = np.count_nonzero(truth) / truth.size
    note = ", ".join(f"{name} {value:.3f}" for name, value in found.items()) + f"; {share:.2%} clefts; {busy}"
    what = "125 × 1,250 × 1,250 voxels: CREMI score, F1, AUC"
    yield Row("cremi_score", what, seconds, "s", target="≤ 30 s", met=seconds <= 30, note=note)
    with mock.patch.object(classes, "_MANY", -1.0):
        slow, busy, same = timed(truth, probability)
    agree = all(abs(found[name] - same[name]) <= 1e-5 * found[name] for name in found)
    what = "with distance transforms instead"
    yield Row("cremi_score", what, slow, "s", "search trees", slow / seconds, "equal", agree, busy)
    yield agreement(truth[:SECTIONS], probability[:SECTIONS])
    seconds, busy, _ = timed(truth, flooded(probability))
    what = "a fifth of the volume predicted"
    yield Row("cremi_score", what, seconds, "s", target="≤ 30 s", met=seconds <= 30, note=busy)
    idle = peak_of(of_none).peak_mib
    for name, function in (("the first", of_good), (what, of_bad)):
        peak = peak_of(function).peak_mib
        limit = 6 * 1024
        about = f"{idle:.0f} MiB are maps, interpreter and packages"
        yield Row("cremi_score", f"peak memory, {name}", peak, "MiB", target="≤ 6 GiB", met=peak <= limit, note=about)


def agreement(truth: Pixels, probability: Pixels) -> Row:
    """Of the CREMI score with means over scipy's transforms, as the challenge's own code has them."""
    mine = CleftDistances().row(MosaicPair(truth, probability, LEVEL, SIZE_NM))[2]
    start = time.perf_counter()
    masks = truth == 1, probability >= LEVEL
    means = [distance_transform_edt(~other, sampling=SIZE_NM)[mask].mean() for mask, other in (masks, masks[::-1])]
    seconds = time.perf_counter() - start
    theirs = float(sum(means) / 2)
    note = f"scipy {theirs:.6f} nm, here {mine:.6f} nm"
    met = abs(theirs - mine) <= 1e-6 * theirs
    return Row(
        "cremi_score", f"scipy's transforms of {len(truth)} sections", seconds, "s", target="equal", met=met, note=note
    )
