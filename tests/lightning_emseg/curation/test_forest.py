"""AUROC against its definition over pairs, and a forest on statistics that tell both classes apart."""

import numpy as np
import pytest

from lightning_emseg.curation.forest import auroc


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    values, labels = (random.integers(0, 5, 40) / 4).astype(np.float32), random.integers(0, 2, 40)
    pairs = values[labels == 1][:, None] - values[labels == 0]
    assert auroc(values, labels) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
