"""Tolerance by dilation with a disk, and by hand."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from data_modules.errors import UserError
from lightning_emseg.metrics.classes import TolerantF1
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.pixels import confusion_at, truth_histogram

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIZES: dict[int, list[tuple[float, ...]]] = {
    2: [(1.0, 1.0), (2.18, 2.18), (4.0, 6.5)],
    3: [(40.0, 4.0, 4.0), (29.0, 6.0, 5.0)],
}


def disk(radius_nm: float, pixel_size_nm: tuple[float, ...]) -> Mask:
    """All pixels at most so far from the middle one; slightly more than the radius, to be clear of rounding."""
    reach = [int(radius_nm // size) + 1 for size in pixel_size_nm]
    grid = np.meshgrid(*(np.arange(-r, r + 1) * s for r, s in zip(reach, pixel_size_nm, strict=True)), indexing="ij")
    squares: NDArray[np.float64] = np.sum([axis**2 for axis in grid], axis=0)
    found: Mask = squares <= radius_nm**2 * (1 + 1e-9)
    return found


def by_dilation(truth: Pixels, found: Mask, radius_nm: float, sizes: tuple[float, ...]) -> tuple[float, float, float]:
    true, predicted, element = truth == 1, found & (truth != 255), disk(radius_nm, sizes)
    near_truth, near_prediction = binary_dilation(true, element), binary_dilation(predicted, element)
    precision = float((predicted & near_truth).sum() / predicted.sum()) if predicted.any() else 1.0
    recall = float((true & near_prediction).sum() / true.sum()) if true.any() else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return f1, precision, recall


@st.composite
def cases(draw: st.DrawFn) -> tuple[Pixels, Mask, tuple[float, ...]]:
    dimensions = draw(st.sampled_from([2, 3]))
    shape = draw(hnp.array_shapes(min_dims=dimensions, max_dims=dimensions, max_side=14 if dimensions == 2 else 7))
    truth = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 0, 1, 255])))
    predicted = draw(hnp.arrays(np.bool_, shape, elements=st.sampled_from([False, False, False, True])))
    return truth, predicted, draw(st.sampled_from(SIZES[dimensions]))


def random_case(seed: int, shape: tuple[int, ...], sizes: tuple[float, ...]) -> tuple[Pixels, Mask, tuple[float, ...]]:
    random = np.random.default_rng(seed)
    return random.choice(np.array([0] * 18 + [1, 255], np.uint8), shape), random.random(shape) < 0.05, sizes


@example(random_case(0, (40, 50), (1.0, 1.0)), 3.0)
@example(random_case(1, (40, 50), (4.0, 6.5)), 2.0)
@example(random_case(2, (5, 20, 30), (29.0, 6.0, 5.0)), 6.0)
@given(cases(), st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0, 13.0]))
def test_equals_dilation_with_a_disk(case: tuple[Pixels, Mask, tuple[float, ...]], pixels: float) -> None:
    truth, predicted, sizes = case
    # A whole number of pixels along X, so that many distances are exactly the tolerance.
    tolerance = pixels * sizes[-1]
    comparison = MosaicPair(truth, 255 * predicted.astype(np.uint8), 128, sizes)
    assert TolerantF1(tolerance).row(comparison) == pytest.approx(by_dilation(truth, predicted, tolerance, sizes))


def test_tolerance_of_nothing_is_pixel_f1() -> None:
    random = np.random.default_rng(0)
    truth = random.choice(np.array([0, 1, 255], np.uint8), (60, 70))
    probability = random.integers(0, 256, (60, 70), dtype=np.uint8)
    pixel = confusion_at(truth_histogram(probability, truth), 100)
    expected = (float(pixel.f1), float(pixel.precision), float(pixel.recall))
    assert TolerantF1(0).row(MosaicPair(truth, probability, 100, (4.0, 4.0))) == pytest.approx(expected)


def test_lines_count_from_the_tolerance_on() -> None:
    truth, probability = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[:, 10], probability[:, 13] = 1, 255
    metric = TolerantF1([6.5, 6.54, 30.0])
    assert metric.row(MosaicPair(truth, probability, 128, (2.18, 2.18))) == (0,) * 3 + (1,) * 6
    assert metric.columns[:4] == (
        "f1_within_6.5nm",
        "precision_within_6.5nm",
        "recall_within_6.5nm",
        "f1_within_6.54nm",
    )


@pytest.mark.parametrize(
    ("true", "found", "expected"),
    [
        (False, False, (1.0, 1.0, 1.0)),
        (True, False, (0.0, 1.0, 0.0)),
        (False, True, (0.0, 0.0, 1.0)),
    ],
)
def test_conventions_for_empty_masks(true: bool, found: bool, expected: tuple[float, ...]) -> None:
    truth, probability = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    truth[4, 4], probability[4, 4] = true, 255 * found
    assert TolerantF1(20.0).row(MosaicPair(truth, probability, 128, (4.0, 4.0))) == expected


def test_ignored_pixels_count_nowhere() -> None:
    random = np.random.default_rng(1)
    truth = random.choice(np.array([0, 0, 0, 1, 255], np.uint8), (50, 50))
    probability = random.integers(0, 256, (50, 50), dtype=np.uint8)
    rows = []
    for value in (0, 255):
        probability[truth == 255] = value
        rows.append(TolerantF1([4.0, 8.0]).row(MosaicPair(truth, probability.copy(), 220, (4.0, 4.0))))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), [3.0, -2.0], [3.0, 3.0]])
def test_impossible_tolerances_are_refused(tolerance: list[float] | float) -> None:
    with pytest.raises(UserError, match="TolerantF1: tolerance_nm"):
        TolerantF1(tolerance)
