"""IoU where the truth labels some objects only: what was predicted elsewhere is left out."""

import math

import cc3d
import numpy as np

from lightning_emseg.metrics.comparison import Comparison, Mask
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.pixel import level_of


def labelled_objects_iou(truth: Mask, predicted: Mask, known: Mask | None = None) -> float:
    """IoU of the foreground without predicted objects that touch no labelled one.

    Predicted objects are connected components over faces, edges and corners (8 neighbours in 2D, 26 in 3D). One that
    shares a pixel with the true foreground counts as a whole, also where it reaches beyond it, so that what spills over
    or merges with a neighbour is still wrong; one that shares none is left out as a whole, even if it is wrong.

    Source: Conrad and Narayan (2021), on the benchmark of Perez et al. (2014): "we ignored areas in the predicted
    segmentations that did not coincide with a labeled instance"; that these are whole components, and their
    neighbours, are from the published code.

    Args:
        truth: ``bool (*S)``, 2D or 3D, the labelled foreground.
        predicted: ``bool (*S)``, the predicted one, also where nothing is known, as an object may reach across.
        known: ``bool (*S)``, pixels that count; all by default. True foreground must be known.

    Returns:
        0–1; NaN if nothing is labelled, as every prediction would be left out.
    """
    labelled = int(np.count_nonzero(truth))
    if not labelled:
        return math.nan
    objects = cc3d.connected_components(predicted, connectivity=8 if predicted.ndim == 2 else 26, out_dtype=np.uint32)
    touching = np.unique(objects[truth & predicted])
    counted = predicted if known is None else predicted & known
    size = np.bincount(objects[counted], minlength=int(objects.max()) + 1)
    kept = int(size[touching].sum())
    shared = int(np.count_nonzero(truth & predicted))
    return shared / (labelled + kept - shared)


class LabelledObjectsIoU(MosaicMetric):
    """IoU where some objects are labelled only, see :func:`labelled_objects_iou`.

    Columns ``labelled_objects_iou``, at the chosen threshold, and ``labelled_objects_iou_at_0.5``.
    """

    columns = ("labelled_objects_iou", "labelled_objects_iou_at_0.5")

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """At the comparison's threshold and at 0.5."""
        known = None if comparison.all_known else comparison.known
        return tuple(
            labelled_objects_iou(comparison.truth, comparison.probability >= level, known)
            for level in (comparison.level, level_of(0.5))
        )
