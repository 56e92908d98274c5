"""AUROC against its definition over pairs, and a forest on statistics that tell both classes apart."""

import numpy as np
import pytest

from lightning_emseg.curation.forest import auroc, fit_forest


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    values, labels = (random.integers(0, 5, 40) / 4).astype(np.float32), random.integers(0, 2, 40)
    pairs = values[labels == 1][:, None] - values[labels == 0]
    assert auroc(values, labels) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_forest_separates_separable_statistics() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(60) % 2
    statistics = random.normal(size=(60, 4)).astype(np.float32)
    # The third statistic alone tells the classes apart.
    statistics[:, 2] += 6 * labels
    forest = fit_forest((statistics[:40], labels[:40]), (statistics[40:], labels[40:]), 0, 1)
    assert forest.auroc == 1
    importances = forest.importances()
    assert max(importances, key=lambda name: importances[name]) == "geometric mean median"
    assert sum(importances.values()) == pytest.approx(1)
    unknown = statistics[40:44].copy()
    unknown[1, 3] = np.nan
    found = forest.probability(unknown)
    assert np.isnan(found).tolist() == [False, True, False, False]
    assert (found[[0, 2, 3]] > 0.5).tolist() == [False, False, True]
