"""Metrics of whole mosaics as classes of torchmetrics, exact across ranks.

Each wraps the pure functions of :mod:`~lightning_emseg.metrics.boundary` and
:mod:`~lightning_emseg.metrics.segmentation`, which need no torch.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.distances import CLEFT_DISTANCES, SURFACE_DISTANCES
from lightning_emseg.metrics.boundary.skeleton import skeleton_recall
from lightning_emseg.metrics.boundary.tolerance import tolerant_f1, urisc_binary_f1
from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from lightning_emseg.metrics.pixels import LEVELS, Counts, count_pixels, level_of
from lightning_emseg.metrics.segmentation.scores import (
    ADAPTED_RAND,
    LABELLED_OBJECTS_IOU,
    VARIATION_OF_INFORMATION,
    cell_score,
    v_info,
    v_rand,
)


class MosaicCounts(Metric):
    """Pixel counts of every mosaic, summed over ranks.

    Args:
        mosaics: Number of mosaics.
        classes: Number of classes; 0 for probabilities of one foreground.
    """

    full_state_update = False
    counts: Tensor
    seen: Tensor

    def __init__(self, mosaics: int, classes: int = 0) -> None:
        super().__init__()
        self._classes = classes
        shape = (classes, classes) if classes else (2, LEVELS)
        self.add_state("counts", torch.zeros(mosaics, *shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mosaic: int, predicted: Tensor, truth: Tensor) -> None:
        """Add pixels of one mosaic, each of which must come once.

        Args:
            mosaic: Position of the mosaic.
            predicted: ``uint8``, any shape: quantised probabilities, or positions of classes.
            truth: ``uint8`` of the same shape: 0 and 1, or positions of classes, or 255 for ignored.
        """
        counts = count_pixels(predicted.cpu().numpy(), truth.cpu().numpy(), self._classes)
        self.counts[mosaic] += torch.from_numpy(counts).to(self.counts.device)
        self.seen[mosaic] += predicted.numel()

    def compute(self) -> tuple[Counts, Counts]:
        """Return counts of each mosaic, and the number of pixels seen, ignored ones included, ``(mosaics,)``.

        Returns:
            ``int64 (mosaics, 2, 256)``, or ``(mosaics, C, C)`` of classes, of
            :func:`~lightning_emseg.metrics.pixels.count_pixels`.
        """
        return self.counts.cpu().numpy(), self.seen.cpu().numpy()


class MosaicMetric(Metric):
    """Metric that needs a whole mosaic at once, as segmentations and distances do.

    Named under a module's ``metrics``, its columns are logged as ``val/<column>`` and ``test/<column>`` and written to
    the score files; the rank that owns a mosaic computes its :meth:`row`. In a notebook it is a metric of torchmetrics,
    which averages over mosaics and ranks.

    A metric is a subclass with a ``score``, which it may also set before the base's ``__init__``.

    Attributes:
        score: Columns and the function that computes them.
        columns: Names of the numbers.
        planes_only: Whether volumes have no such numbers.

    Raises:
        UserError: if the subclass has no ``score``.
    """

    full_state_update = False
    score: MosaicScore
    total: Tensor
    defined: Tensor

    def __init__(self) -> None:
        super().__init__()
        if not isinstance(getattr(self, "score", None), MosaicScore):
            raise UserError(
                f"{type(self).__name__} has no score: give the class a MosaicScore, its column names and a function "
                "from a pair to numbers, or set self.score before super().__init__()"
            )
        self.columns, self.needs_probability = self.score.columns, self.score.needs_probability
        self.planes_only = self.score.planes_only
        # Sums, as lists of unequal length are hard to gather from ranks.
        self.add_state("total", torch.zeros(len(self.columns), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", torch.zeros(len(self.columns), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor | NDArray[Any],
        target: Tensor | NDArray[Any],
        pixel_size_nm: Sequence[float] | float = 1.0,
        threshold: float = 0.5,
    ) -> None:
        """Measure one whole mosaic.

        Args:
            preds: Probabilities ``(Y, X)`` or ``(Z, Y, X)``: floats from 0 to 1, which are quantised as a run's are, or
                ``uint8``, where 255 is certain foreground.
            target: Truth of the same shape: 0 and 1 of any integer type or ``bool``, and 255 for ignored.
            pixel_size_nm: Size of a pixel in nm, one value for all axes or one an axis; lengths are in px at 1.
            threshold: Probability from which on a pixel is foreground, above 0 and up to 1.

        Raises:
            UserError: if shapes, types or values do not fit, or it is a volume and the metric is of planes.
        """
        if isinstance(preds, Tensor) and preds.is_floating_point():
            preds = preds.float()  # numpy has no bfloat16
        probability, truth = (
            each.detach().cpu().numpy() if isinstance(each, Tensor) else np.asarray(each) for each in (preds, target)
        )
        sizes = (pixel_size_nm,) * truth.ndim if isinstance(pixel_size_nm, int | float) else tuple(pixel_size_nm)
        _check_mosaic(type(self).__name__, probability, truth, sizes, threshold)
        if probability.dtype != np.uint8:
            # In single precision, as the loops quantise.
            probability = np.rint(probability.astype(np.float32) * np.float32(255)).astype(np.uint8)
        pair = MosaicPair(truth.astype(np.uint8), probability, level_of(threshold), sizes)
        row = torch.tensor(self.row(pair), dtype=torch.float64, device=self.total.device)
        self.total += row.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
        self.defined += ~row.isnan()

    def compute(self) -> Tensor:
        """Average over mosaics.

        Returns:
            Means ``float64 (columns,)`` in the order of ``columns``. Mosaics whose number is NaN have no part in the
            mean; it is NaN where all are, and infinite where one is.
        """
        return self.total / self.defined

    def row(self, pair: MosaicPair) -> tuple[float, ...]:
        """Compute the numbers of one mosaic in the order of ``columns``, without touching the state.

        Raises:
            UserError: if it is a volume and the metric is of planes, or the score returns not one number a column.
        """
        name = type(self).__name__
        if self.planes_only and pair.labels.ndim != 2:
            raise UserError(
                f"{name} is defined for planes, not for a volume of {pair.labels.shape} px: "
                f"score its sections one by one, or leave {name} out of the metrics"
            )
        values = self.score.row(pair)
        if len(values) != len(self.columns):
            raise UserError(
                f"{name}: its score returned {len(values)} number(s) for the {len(self.columns)} column(s) "
                f"{', '.join(self.columns)}: return one number a column, NaN for what does not exist"
            )
        return values


def _check_mosaic(
    name: str, probability: NDArray[Any], truth: NDArray[Any], sizes: tuple[float, ...], threshold: float
) -> None:
    if probability.shape != truth.shape or truth.ndim not in (2, 3):
        raise UserError(
            f"{name}: preds of {probability.shape} px and target of {truth.shape} px: give one whole mosaic a call, "
            "both (Y, X) or both (Z, Y, X)"
        )
    is_float = probability.dtype.kind == "f"
    if not is_float and probability.dtype != np.uint8:
        raise UserError(f"{name}: preds are {probability.dtype}: give probabilities as floats from 0 to 1, or as uint8")
    # NaN fails this too.
    if is_float and not ((probability >= 0) & (probability <= 1)).all():
        raise UserError(f"{name}: preds have values outside 0 to 1, or NaN: give probabilities, not logits")
    if truth.dtype.kind not in "iub" or not np.isin(truth, (0, 1, IGNORE)).all():
        raise UserError(f"{name}: target has other values than 0, 1 and {IGNORE} (unknown): make it binary first")
    if len(sizes) != truth.ndim or not all(0 < size < math.inf for size in sizes):
        raise UserError(f"{name}: pixel_size_nm is {sizes}: give a size above 0 for {truth.ndim} axes")
    if not 0 < threshold <= 1:
        raise UserError(f"{name}: threshold is {threshold}: give a probability above 0 and up to 1")


class VRand(MosaicMetric):
    """V-Rand of cells, see :func:`~.segmentation.scores.v_rand`; columns: :func:`~.segmentation.scores.cell_score`.

    Args:
        thinned: Whether predicted borders are thinned to one pixel first, as ISBI 2012 does; if not, columns begin
            with ``v_rand_unthinned``.
        max_over_thresholds: Whether to add the best over ISBI 2012's thresholds, which takes 11 segmentations.
    """

    def __init__(self, thinned: bool = True, max_over_thresholds: bool = False) -> None:
        self.score = cell_score("v_rand", v_rand, thinned, max_over_thresholds)
        super().__init__()


class VInfo(MosaicMetric):
    """V-Info of cells, see :func:`~.segmentation.scores.v_info`; columns: :func:`~.segmentation.scores.cell_score`.

    Args:
        thinned: Whether predicted borders are thinned to one pixel first, as ISBI 2012 does; if not, columns begin
            with ``v_info_unthinned``.
        max_over_thresholds: Whether to add the best over ISBI 2012's thresholds, which takes 11 segmentations.
    """

    def __init__(self, thinned: bool = True, max_over_thresholds: bool = False) -> None:
        self.score = cell_score("v_info", v_info, thinned, max_over_thresholds)
        super().__init__()


class AdaptedRand(MosaicMetric):
    """ARAND of the cells as they are, with precision and recall: see :func:`~.segmentation.scores.adapted_rand`."""

    score = ADAPTED_RAND


class VariationOfInformation(MosaicMetric):
    """VOI of the cells in bits, with its parts: see :func:`~.segmentation.scores.variation_of_information`."""

    score = VARIATION_OF_INFORMATION


class LabelledObjectsIoU(MosaicMetric):
    """IoU where some objects are labelled only, see :func:`~.segmentation.scores.labelled_objects_iou`.

    Columns ``labelled_objects_iou``, at the chosen threshold, and ``labelled_objects_iou_at_0.5``.
    """

    score = LABELLED_OBJECTS_IOU


class SurfaceDistances(MosaicMetric):
    """ASSD and HD95 between the surfaces of true and predicted foreground, in nm.

    See :func:`~.boundary.distances.average_symmetric_surface_distance` and :func:`~.boundary.distances.hausdorff95`.
    The border of the image counts as a surface where foreground touches it, as in MONAI; the border of an ignored area
    does not. Columns ``assd_nm`` and ``hausdorff95_nm``: infinite where one of truth and prediction is empty, NaN where
    both are.
    """

    score = SURFACE_DISTANCES


class CleftDistances(MosaicMetric):
    """ADGT, ADF and CREMI score in nm on the anisotropic grid; lower is better.

    ADGT is the mean distance of predicted cleft voxels to the nearest true one (false positives), ADF that of true
    cleft voxels to the nearest predicted one (false negatives), and the CREMI score their mean. Common voxels count
    with 0. Ignored voxels belong to neither. Columns ``adgt_nm``, ``adf_nm`` and ``cremi_score_nm``.

    Where the prediction is empty there is no ADGT (NaN), ADF is infinite, and so is the score, so that a network that
    predicts nothing never comes out ahead; where the truth is empty, ADF is NaN, ADGT infinite, and so is the score.
    Where both are, all three are NaN and the mosaic drops out of the mean. The challenge's own code defines none of
    this: it fails at the maximum over no voxels, and before that measures to a voxel that scipy imagines outside of the
    volume.

    Source: Liu and Ji 2021, eq. 11; the means of ``acc_false_positives`` and ``acc_false_negatives`` of
    ``cremi.evaluation.Clefts`` in the challenge's cremi_python.
    """

    score = CLEFT_DISTANCES


class TolerantF1(MosaicMetric):
    """F1, precision and recall with a tolerance; see :func:`~.boundary.tolerance.tolerant_scores`.

    For each tolerance t the columns ``f1_within_<t>nm``, ``precision_within_<t>nm`` and ``recall_within_<t>nm``.

    Args:
        tolerance_nm: One or several tolerances, in nm.

    Raises:
        UserError: if a tolerance is negative or not finite, or given twice.
    """

    def __init__(self, tolerance_nm: list[float] | float) -> None:
        tolerances = tolerance_nm if isinstance(tolerance_nm, list) else [tolerance_nm]
        if not all(0 <= tolerance < math.inf for tolerance in tolerances):
            raise UserError(f"TolerantF1: tolerance_nm must be 0 or more nanometers, got {tolerance_nm}")
        self.score = tolerant_f1(tolerances)
        if len(set(self.score.columns)) < len(self.score.columns):
            raise UserError(f"TolerantF1: tolerance_nm names a tolerance twice, got {tolerance_nm}; give it once")
        super().__init__()


class SkeletonRecall(MosaicMetric):
    """Skeleton recall and precision, and the number of breaks; in planes only.

    See :func:`~.boundary.skeleton.share_covered` and :func:`~.boundary.skeleton.count_breaks`. The skeleton of the
    prediction is that of all of it, and counts where the truth is known.

    Args:
        tolerance_nm: Distance from a skeleton up to which foreground covers it.
        shortest_break_nm: Length that breaks must exceed to count.

    Raises:
        UserError: if a length is negative or not finite.
    """

    def __init__(self, tolerance_nm: float, shortest_break_nm: float) -> None:
        for name, length in (("tolerance_nm", tolerance_nm), ("shortest_break_nm", shortest_break_nm)):
            if not 0 <= length < math.inf:
                raise UserError(f"SkeletonRecall: {name} must be 0 or more nanometers, got {length}")
        self.score = skeleton_recall(tolerance_nm, shortest_break_nm)
        super().__init__()


class UriscF1(MosaicMetric):
    """U-RISC's score with a binary truth, see :func:`~.boundary.tolerance.urisc_binary_score`; in planes only.

    A store's labels are binary, so this is not the official score of grey truths, which ``emseg score --official
    urisc`` gives.

    Args:
        bound_pix: Radius in px of the disk that grows both masks; 0 in the competition.

    Raises:
        UserError: if the radius is negative.
    """

    def __init__(self, bound_pix: int = 0) -> None:
        if bound_pix < 0:
            raise UserError(f"UriscF1: bound_pix must be 0 or more pixels, got {bound_pix}")
        self.score = urisc_binary_f1(bound_pix)
        super().__init__()
