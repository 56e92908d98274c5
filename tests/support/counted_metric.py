"""A metric of whole mosaics whose values can be counted by hand, and a module with it."""

from lightning_emseg.metrics.classes import MosaicMetric
from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from tests.support import tiny

LEVEL = 100
"""Threshold of the module, in grey levels of the probability."""
COLUMNS = ("cells", "ignored", "side_nm")


def _row(pair: MosaicPair) -> tuple[float, ...]:
    cells = float(pair.predicted_cells.max())
    return cells, float((~pair.known).sum()), pair.pixel_size_nm[0] * pair.labels.shape[0]


class Counted(MosaicMetric):
    score = MosaicScore(COLUMNS, _row)


def module_of(*metrics: MosaicMetric) -> tiny.GreyModule:
    module = tiny.GreyModule(metrics=list(metrics), threshold_criterion="fixed")
    module.threshold.fill_(LEVEL / 255)
    return module
