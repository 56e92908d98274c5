"""Scores over thresholds against each threshold alone, and ISBI 2012's thresholds against its script's loop."""

import gc
import math
import weakref

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lightning_emseg.metrics.classes import AdaptedRand, VariationOfInformation, VInfo, VRand
from lightning_emseg.metrics.mosaic_pair import MosaicPair, Segments, components
from lightning_emseg.metrics.segmentation.cells import (
    ISBI_LEVELS,
    ThresholdCurve,
    average_curves,
    score_levels,
    tabulate_cells,
    tabulate_levels,
    tabulate_sweep,
    thin_borders,
)
from lightning_emseg.metrics.segmentation.contingency import contingency
from lightning_emseg.metrics.segmentation.scores import v_info, v_rand


def probability(seed: int) -> NDArray[np.uint8]:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(90, 110)), 3)
    found: NDArray[np.uint8] = (255 * np.exp(-((field / field.std()) ** 2) * 3)).astype(np.uint8)
    return found


def test_levels_are_those_of_the_script_s_loop() -> None:
    cell_probability = ((255 - np.arange(256)) / 255).astype(np.float32)
    levels, threshold = [], 0.0
    while threshold <= 1.0:
        levels.append(int(np.count_nonzero(cell_probability.astype(np.float64) > threshold)))
        threshold += 0.1
    assert tuple(levels) == ISBI_LEVELS


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("thinned", [True, False])
def test_tables_are_those_of_each_level_alone(workers: int, thinned: bool) -> None:
    truth, found = components(probability(0) < 128), probability(1)
    tables = tabulate_levels(truth, found, thinned=thinned, workers=workers)
    for score in (v_rand, v_info):
        curve = score_levels(tables, score)
        for level, value in zip(ISBI_LEVELS, curve.f, strict=True):
            cells = components(found < level)
            expected = score(contingency(truth, thin_borders(cells) if thinned else cells))
            assert value == expected.f


def test_exact_prediction_is_best_at_its_own_threshold() -> None:
    found = probability(2)
    truth = components(found < 154)
    curve = score_levels(tabulate_levels(truth, found), v_rand)
    assert (curve.maximum, curve.best_level) == (1, 154)


def test_the_maximum_leaves_out_what_is_no_number() -> None:
    curve = ThresholdCurve((3, 2, 1, 0), (math.nan, 0.5, 0.75, 0.75))
    assert (curve.maximum, curve.best_level) == (0.75, 1)
    nothing = ThresholdCurve((1,), (math.nan,))
    assert math.isnan(nothing.maximum)
    assert nothing.best_level is None


def test_a_stack_is_scored_at_one_threshold() -> None:
    curve = average_curves([ThresholdCurve((200, 100), (1.0, 0.5)), ThresholdCurve((200, 100), (0.0, 0.75))])
    assert curve == ThresholdCurve((200, 100), (0.5, 0.625))
    assert (curve.maximum, curve.best_level) == (0.625, 100)


def test_a_mean_needs_curves_over_the_same_levels() -> None:
    with pytest.raises(ValueError, match="same levels"):
        average_curves([])
    with pytest.raises(ValueError, match="same levels"):
        average_curves([ThresholdCurve((1,), (0.5,)), ThresholdCurve((2,), (0.5,))])


class CountedComparison(MosaicPair):
    """Counts how often the cells of the prediction are asked for."""

    asked = 0

    @property
    def predicted_cells(self) -> Segments:
        self.asked += 1
        return components(self.probability < self.level)


@pytest.fixture
def comparison() -> CountedComparison:
    random = np.random.default_rng(0)
    truth = (random.random((20, 24)) < 0.4).astype(np.uint8)
    return CountedComparison(truth, random.integers(0, 256, truth.shape, dtype=np.uint8), 128, (4.0, 4.0))


@pytest.mark.parametrize("thinned", [False, True])
def test_a_table_leaves_out_true_background(comparison: CountedComparison, thinned: bool) -> None:
    cells = components(comparison.probability < 128)
    expected = contingency(comparison.truth_cells, thin_borders(cells) if thinned else cells, keep_truth_zero=False)
    found = tabulate_cells(comparison, thinned=thinned)
    for part in ("truth_id", "predicted_id", "count"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_metrics_share_two_tables(comparison: CountedComparison) -> None:
    for metric in (VRand(), VInfo(), VRand(thinned=False), AdaptedRand(), VariationOfInformation()):
        metric.row(comparison)
    assert comparison.asked == 2


@pytest.mark.parametrize("thinned", [False, True])
def test_tables_are_forgotten_with_their_comparison(comparison: CountedComparison, thinned: bool) -> None:
    given = MosaicPair(comparison.labels, comparison.probability, 100, (4.0, 4.0))
    table, sweep = tabulate_cells(given, thinned=thinned), tabulate_sweep(given, thinned=thinned)
    assert tabulate_cells(given, thinned=thinned) is table
    assert tabulate_sweep(given, thinned=thinned) is sweep
    left = [weakref.ref(each) for each in (table, *sweep)]
    del given, table, sweep
    gc.collect()
    assert [each() for each in left] == [None] * len(left)
