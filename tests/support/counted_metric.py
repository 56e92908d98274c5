"""A metric of whole mosaics whose values can be counted by hand, and a module with it."""

from lightning_emseg.metrics.classes import MosaicMetric
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from tests.support import tiny

LEVEL = 100
"""Threshold of the module, in grey levels of the probability."""


class Counted(MosaicMetric):
    columns = ("cells", "ignored", "side_nm")

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        cells = float(comparison.predicted_cells.max())
        return cells, float((~comparison.known).sum()), comparison.pixel_size_nm[0] * comparison.labels.shape[0]


def module_of(*metrics: MosaicMetric) -> tiny.GreyModule:
    module = tiny.GreyModule(metrics=list(metrics), threshold_criterion="fixed")
    module.threshold.fill_(LEVEL / 255)
    return module
