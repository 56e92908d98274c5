"""Average symmetric surface distance and the 95th percentile of the Hausdorff distance."""

import math
from functools import partial

import numpy as np

from lightning_emseg.metrics.boundary.surfaces import surface_distances
from lightning_emseg.metrics.comparison import Comparison, Distances
from lightning_emseg.metrics.mosaic_score import MosaicScore
from lightning_emseg.metrics.threads import at_once


def average_symmetric_surface_distance(from_truth: Distances, from_prediction: Distances) -> float:
    """Mean distance of all surface pixels of either mask to the surface of the other (ASSD).

    Source: Heimann et al., IEEE TMI 28 (2009), section III-C; as MONAI's ``compute_average_surface_distance`` with
    ``symmetric=True`` and medpy's ``assd`` up to 0.3.

    Args:
        from_truth: ``float32 (N,)``, 0 or more, in any unit of length: of the N surface pixels of the truth to the
            surface of the prediction, see :func:`~lightning_emseg.metrics.boundary.surfaces.surface_distances`;
            infinite where there is no prediction.
        from_prediction: ``float32 (M,)``, 0 or more, in the same unit: of the prediction's to the truth.

    Returns:
        0 or more, in the same unit; infinite where one mask is empty, NaN where both are.
    """
    number = from_truth.size + from_prediction.size
    total = from_truth.sum(dtype=np.float64) + from_prediction.sum(dtype=np.float64)
    return float(total / number) if number else math.nan


def hausdorff95(from_truth: Distances, from_prediction: Distances) -> float:
    """Larger one of the 95th percentiles of the distances in either direction (HD95).

    Percentiles of each direction first, as MONAI, DeepMind's surface-distance and the BraTS challenge have it; medpy
    takes that of all distances together. Between values it is interpolated linearly.

    Source: the partial Hausdorff distance of Huttenlocher, Klanderman and Rucklidge, IEEE PAMI 15 (1993), with the
    quantile 0.95 in either direction; as MONAI's ``compute_hausdorff_distance`` with ``percentile=95``.

    Args:
        from_truth: As of :func:`average_symmetric_surface_distance`: ``float32 (N,)``, 0 or more.
        from_prediction: ``float32 (M,)``, 0 or more, in the same unit.

    Returns:
        0 or more, in the same unit; infinite where one mask is empty, NaN where both are.
    """
    return max((_percentile95(found) for found in (from_truth, from_prediction) if found.size), default=math.nan)


def _percentile95(distances: Distances) -> float:
    # Interpolating between infinities gives NaN.
    return math.inf if np.isinf(distances).any() else float(np.percentile(distances, 95))


def _surface_row(comparison: Comparison) -> tuple[float, ...]:
    truth, predicted = comparison.truth, comparison.predicted
    known = None if comparison.all_known else comparison.known
    size, threads = comparison.pixel_size_nm, comparison.threads
    to_prediction, to_truth = comparison.distance_to_prediction_nm, comparison.distance_to_truth_nm
    from_truth, from_prediction = at_once(
        [
            partial(surface_distances, truth, predicted, known, to_prediction, size, threads),
            partial(surface_distances, predicted, truth, known, to_truth, size, threads),
        ],
        threads,
    )
    return average_symmetric_surface_distance(from_truth, from_prediction), hausdorff95(from_truth, from_prediction)


SURFACE_DISTANCES = MosaicScore(("assd_nm", "hausdorff95_nm"), _surface_row)
"""ASSD and HD95 in nm; infinite where one of truth and prediction is empty, NaN where both are."""
