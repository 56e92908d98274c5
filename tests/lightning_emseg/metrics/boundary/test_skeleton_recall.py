"""Skeleton recall and breaks of membranes that were drawn and cut by hand."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.morphology import disk, thin

from data_modules.errors import UserError
from lightning_emseg.metrics.classes import SkeletonRecall
from lightning_emseg.metrics.mosaic_pair import MosaicPair

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def row_of(truth: Mask, predicted: Mask, tolerance_nm: float = 0.0, shortest_nm: float = 0.0) -> tuple[float, ...]:
    comparison = MosaicPair(truth.astype(np.uint8), 255 * predicted.astype(np.uint8), 128, (2.0, 2.0))
    return SkeletonRecall(tolerance_nm, shortest_nm).row(comparison)


def bar() -> Mask:
    """A membrane 5 px thick from border to border; its skeleton is row 22, but for the very ends."""
    mask = np.zeros((45, 1000), bool)
    mask[20:25] = True
    return mask


def cut(mask: Mask, *gaps: tuple[int, int]) -> Mask:
    found = mask.copy()
    for first, last in gaps:
        found[:, first:last] = False
    return found


def test_gaps_are_counted_when_longer_than_the_shortest() -> None:
    # 3, 10 and 20 px of 2 nm; the ends of a gap are where foreground begins.
    predicted = cut(bar(), (100, 103), (300, 310), (600, 620))
    counts = [row_of(bar(), predicted, shortest_nm=shortest)[2] for shortest in (0.0, 5.9, 6.0, 19.9, 20.0, 39.9, 40.0)]
    assert counts == [3, 3, 2, 2, 1, 1, 0]


def test_recall_is_the_share_of_skeleton_found() -> None:
    recall, precision, number, per_mm = row_of(bar(), cut(bar(), (300, 500)))
    assert recall == pytest.approx(0.8, abs=0.005)
    assert precision == 1
    assert number == 1
    # 1000 px of 2 nm are 0.002 mm.
    assert per_mm == pytest.approx(500, rel=0.01)


def test_tolerance_closes_a_gap_from_both_ends() -> None:
    predicted = cut(bar(), (300, 310))
    assert row_of(bar(), predicted, tolerance_nm=8.0)[2] == 1
    assert row_of(bar(), predicted, tolerance_nm=10.0)[2] == 0


def test_membrane_that_is_not_there_costs_precision_alone() -> None:
    predicted = bar()
    predicted[35:38] = True
    recall, precision, number, _ = row_of(bar(), predicted)
    assert (recall, number) == (1, 0)
    assert precision == pytest.approx(0.5, abs=0.01)


def test_thinner_and_thicker_membranes_are_as_good() -> None:
    thick, thin_one = np.zeros((45, 1000), bool), np.zeros((45, 1000), bool)
    thick[18:27], thin_one[22] = True, True
    for predicted in (thick, thin_one):
        recall, precision, number, per_mm = row_of(bar(), predicted)
        assert (recall, number, per_mm) == (1, 0, 0)
        assert precision == 1


def test_gaps_that_meet_at_a_junction_are_one() -> None:
    truth = np.zeros((101, 101), bool)
    truth[50], truth[:, 50] = True, True
    predicted = truth.copy()
    predicted[40:61, 40:61] = False
    assert row_of(truth, predicted)[2] == 1


@example(0, 0)
@example(1, 3)
@given(st.integers(0, 2**16), st.sampled_from([0, 1, 3]))
def test_shares_equal_those_by_scikit_image(seed: int, pixels: int) -> None:
    random = np.random.default_rng(seed)
    fields = gaussian_filter(random.normal(size=(2, 80, 90)), (0, 3, 3))
    truth = np.abs(fields[0]) < 0.3 * fields[0].std()
    predicted = np.abs(fields[0] + 0.4 * fields[1]) < 0.3 * fields[0].std()
    recall, precision, _, _ = row_of(truth, predicted, tolerance_nm=2.0 * pixels)
    expected = [
        (thin(lines) & binary_dilation(mask, disk(pixels))).sum() / thin(lines).sum()
        for lines, mask in ((truth, predicted), (predicted, truth))
    ]
    # Scikit-image leaves some blocks of 2 × 2 pixels.
    assert (recall, precision) == pytest.approx(expected, abs=0.005)


def test_conventions_for_empty_masks() -> None:
    empty = np.zeros((45, 1000), bool)
    for truth, predicted, shares, number in (
        (empty, empty, (1, 1), 0),
        (empty, bar(), (1, 0), 0),
        (bar(), empty, (0, 1), 1),
    ):
        row = row_of(truth, predicted)
        assert row[:3] == (*shares, number)
        assert math.isnan(row[3]) == (truth is empty)


def test_prediction_over_ignored_pixels_counts_nowhere() -> None:
    truth = bar().astype(np.uint8)
    truth[:, 400:600] = 255
    rows = []
    for value in (0, 255):
        probability = 255 * cut(bar(), (100, 120)).astype(np.uint8)
        probability[:, 400:600] = value
        rows.append(SkeletonRecall(0.0, 0.0).row(MosaicPair(truth, probability, 128, (2.0, 2.0))))
    assert rows[0][:1] + rows[0][2:] == rows[1][:1] + rows[1][2:]
    assert rows[0][2] == 1
    # Spurious membrane there costs nothing.
    assert rows[1][1] == 1


def test_volumes_are_refused_by_name() -> None:
    volume = np.zeros((3, 9, 9), np.uint8)
    with pytest.raises(UserError, match=r"SkeletonRecall is defined for planes, not for a volume of \(3, 9, 9\) px"):
        SkeletonRecall(8.0, 20.0).row(MosaicPair(volume, volume, 128, (40.0, 4.0, 4.0)))


@pytest.mark.parametrize(("tolerance", "shortest"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_impossible_lengths_are_refused(tolerance: float, shortest: float) -> None:
    with pytest.raises(UserError, match="SkeletonRecall: "):
        SkeletonRecall(tolerance, shortest)
