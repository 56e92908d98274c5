"""Metrics of whole mosaics as torchmetrics."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_emseg.metrics.classes import MosaicMetric
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from tests.support.counted_metric import Counted


def test_rows_of_unmeasured_mosaics_are_nan() -> None:
    metric = Counted(mosaics=3)
    truth = np.zeros((4, 5), np.uint8)
    metric.update(MosaicPair(truth, np.zeros((4, 5), np.uint8), 1, (2.0, 2.0)), mosaic=1)
    rows = metric.compute()
    assert rows.shape == (3, 3)
    assert rows[1].tolist() == [1.0, 0.0, 8.0]
    assert torch.isnan(rows[[0, 2]]).all()
    metric.reset()
    assert torch.isnan(_quiet(metric)).all()


def _quiet(metric: MosaicMetric) -> Tensor:
    with pytest.warns(UserWarning, match="before the ``update``"):
        found: Tensor = metric.compute()
    return found
