"""The metric panel of a mosaic of 9,958 × 9,959 px at one threshold, beside scikit-image and scipy in one run."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.morphology import skeletonize

from data_modules.synthetic import SyntheticMosaic
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.pair_scores import FULL_PANEL
from tests.bench.harness import Row, peak_of

SHAPE = (9958, 9959)
LEVEL = 100
PIXEL_SIZE_NM = (2.18, 2.18)

Pixels = NDArray[np.uint8]
T = TypeVar("T")


def membranes(seed: int) -> Pixels:
    """Membranes of synthetic tissue: a quarter of the sides is made, and mirrored to the whole."""
    made = SyntheticMosaic((2490, 2490), seed=seed, pixel_size_nm=PIXEL_SIZE_NM[0])
    part = np.concatenate([mask for _, mask in made.strips()])
    half = np.concatenate([part, part[::-1]])
    quarter = np.concatenate([half, half[:, ::-1]], axis=1)
    return np.ascontiguousarray(np.tile(quarter, (2, 2))[: SHAPE[0], : SHAPE[1]])


def maps() -> tuple[Pixels, Pixels]:
    """Membranes, and a probability map of them with gaps, false membranes and borders that are off by some pixels."""
    truth, other = membranes(0), membranes(1)
    random = np.random.default_rng(0)
    probability = np.zeros(SHAPE, np.uint8)
    for first in range(0, SHAPE[0], 512):
        rows = slice(first, first + 512)
        blurred = ndimage.uniform_filter((truth[rows] * 255).astype(np.float32), 3)
        blurred += ndimage.uniform_filter((other[rows] * 90).astype(np.float32), 3)
        noise = ndimage.zoom(random.normal(0, 55, (-(-len(blurred) // 8), -(-SHAPE[1] // 8))), 8, order=1)
        probability[rows] = np.clip(blurred + noise[: len(blurred), : SHAPE[1]], 0, 255).astype(np.uint8)
    return truth, probability


def ours() -> None:
    """The whole panel, in a process of its own, so that its memory can be watched."""
    truth, probability = maps()
    Evaluator().measure(FULL_PANEL, truth, probability, LEVEL, PIXEL_SIZE_NM)


def rows(scratch: Path) -> Iterator[Row]:
    """Seconds and memory of the panel; seconds of what others need for parts of it."""
    truth, probability = maps()
    seconds, found = timed(lambda: Evaluator().measure(FULL_PANEL, truth, probability, LEVEL, PIXEL_SIZE_NM))
    peak = peak_of(ours).peak_mib
    note = ", ".join(f"{name} {found[name]:.3f}" for name in ("v_rand", "arand", "voi", "assd_nm", "skeleton_recall"))
    yield Row("panel", "full panel at one threshold", seconds, "s", target="≤ 15 s", met=seconds <= 15, note=note)
    limit = 4096
    yield Row("panel", "its peak memory", peak, "MiB", target="≤ 4 GiB", met=peak <= limit, note="maps included")
    predicted = probability >= LEVEL
    cells = [label(border == 0, connectivity=1) for border in (truth, predicted.astype(np.uint8))]
    total = 0.0
    others: dict[str, Callable[[], object]] = {
        "scikit-image: ARAND": lambda: adapted_rand_error(*cells, ignore_labels=[0]),
        "scikit-image: VOI": lambda: variation_of_information(*cells, ignore_labels=[0]),
        "scikit-image: skeletons of truth and prediction": lambda: [skeletonize(m > 0) for m in (truth, predicted)],
        "scipy: distances to truth and prediction": lambda: [
            ndimage.distance_transform_edt(m == 0) for m in (truth, predicted)
        ],
    }
    for name, compute in others.items():
        needed, value = timed(compute)
        total += needed
        check = (
            f"{value[0]:.6f}, here {found['arand']:.6f}" if name.endswith("ARAND") and isinstance(value, tuple) else ""
        )
        yield Row("panel", name, needed, "s", note=check)
    ratio = total / seconds
    yield Row("panel", "those four together", total, "s", "full panel", ratio, note="which holds more than these four")


def timed(compute: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = compute()
    return time.perf_counter() - start, result
