"""Tables of a comparison: made once for all metrics, and forgotten with it."""

import gc
import weakref

import numpy as np
import pytest

from lightning_emseg.metrics.comparison import Comparison, Segments, components
from lightning_emseg.metrics.segmentation.border_thinning import thin_borders
from lightning_emseg.metrics.segmentation.contingency import contingency
from lightning_emseg.metrics.segmentation.information import VariationOfInformation, VInfo
from lightning_emseg.metrics.segmentation.rand import AdaptedRand, VRand
from lightning_emseg.metrics.segmentation.tables import sweep_of, table_of


class CountedComparison(Comparison):
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
    found = table_of(comparison, thinned=thinned)
    for part in ("truth_id", "predicted_id", "count"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_metrics_share_two_tables(comparison: CountedComparison) -> None:
    for metric in (VRand(), VInfo(), VRand(thinned=False), AdaptedRand(), VariationOfInformation()):
        metric.update(comparison)
    assert comparison.asked == 2


@pytest.mark.parametrize("thinned", [False, True])
def test_tables_are_forgotten_with_their_comparison(comparison: CountedComparison, thinned: bool) -> None:
    given = comparison.at(100)
    table, sweep = table_of(given, thinned=thinned), sweep_of(given, thinned=thinned)
    assert table_of(given, thinned=thinned) is table
    assert sweep_of(given, thinned=thinned) is sweep
    left = [weakref.ref(each) for each in (table, *sweep)]
    del given, table, sweep
    gc.collect()
    assert [each() for each in left] == [None] * len(left)
