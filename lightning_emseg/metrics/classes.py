"""Metrics of whole mosaics as classes of torchmetrics."""

import math
from abc import abstractmethod
from typing import ClassVar

import cc3d
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.distances import CLEFT_DISTANCES, SURFACE_DISTANCES
from lightning_emseg.metrics.boundary.skeleton import skeleton_recall
from lightning_emseg.metrics.boundary.tolerance import tolerant_f1, urisc_binary_score
from lightning_emseg.metrics.mosaic_pair import Mask, MosaicPair, check_is_plane
from lightning_emseg.metrics.pixels import LEVELS, Counts, class_confusion, level_of, truth_histogram
from lightning_emseg.metrics.segmentation.contingency import Contingency, SplitMerge
from lightning_emseg.metrics.segmentation.scores import (
    ADAPTED_RAND,
    VARIATION_OF_INFORMATION,
    cell_score,
    v_info,
    v_rand,
)


class MosaicHistograms(Metric):
    """One :func:`~.histogram.truth_histogram` for every mosaic, summed over ranks.

    Args:
        mosaics: Number of mosaics.
    """

    full_state_update = False
    counts: Tensor
    seen: Tensor

    def __init__(self, mosaics: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(mosaics, 2, LEVELS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mosaic: int, probability: Tensor, truth: Tensor) -> None:
        """Add pixels of one mosaic, each of which must come once.

        Args:
            mosaic: Position of the mosaic.
            probability: ``uint8``, any shape.
            truth: ``uint8`` of the same shape: 0, 1, or 255 for ignored.
        """
        counts = truth_histogram(probability.cpu().numpy(), truth.cpu().numpy())
        self.counts[mosaic] += torch.from_numpy(counts).to(self.counts.device)
        self.seen[mosaic] += probability.numel()

    def compute(self) -> tuple[Counts, Counts]:
        """Histograms ``int64 (mosaics, 2, 256)`` and number of pixels seen, ignored ones included, ``(mosaics,)``."""
        return self.counts.cpu().numpy(), self.seen.cpu().numpy()


class MosaicConfusions(Metric):
    """One :func:`~.confusion.class_confusion` for every mosaic, summed over ranks.

    Args:
        mosaics: Number of mosaics.
        classes: Number of classes.
    """

    full_state_update = False
    counts: Tensor
    seen: Tensor

    def __init__(self, mosaics: int, classes: int) -> None:
        super().__init__()
        self._classes = classes
        self.add_state("counts", torch.zeros(mosaics, classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mosaic: int, predicted: Tensor, truth: Tensor) -> None:
        """Add pixels of one mosaic, each of which must come once.

        Args:
            mosaic: Position of the mosaic.
            predicted: ``uint8``, any shape, positions of classes.
            truth: ``uint8`` of the same shape; 255 is ignored.
        """
        counts = class_confusion(predicted.cpu().numpy(), truth.cpu().numpy(), self._classes)
        self.counts[mosaic] += torch.from_numpy(counts).to(self.counts.device)
        self.seen[mosaic] += predicted.numel()

    def compute(self) -> tuple[Counts, Counts]:
        """Confusions ``int64 (mosaics, C, C)`` and pixels seen, ignored ones included, ``(mosaics,)``."""
        return self.counts.cpu().numpy(), self.seen.cpu().numpy()


class MosaicMetric(Metric):
    """A metric that needs a whole mosaic at once, as segmentations and distances do.

    One rank owns a mosaic and computes its row. As a metric of torchmetrics, rows of all ranks are summed, each being
    zero elsewhere, so that no list of unequal length is gathered. Named under a module's ``metrics``, its columns are
    logged as ``val/<column>`` and ``test/<column>`` and written to the score files.

    Args:
        mosaics: Number of mosaics that :meth:`update` is called for, over all ranks.

    Attributes:
        columns: Names of the numbers.
    """

    full_state_update = False
    columns: tuple[str, ...]
    rows: Tensor
    seen: Tensor

    def __init__(self, mosaics: int = 1) -> None:
        super().__init__()
        rows = torch.zeros(mosaics, len(self.columns), dtype=torch.float64)
        self.add_state("rows", rows, dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, comparison: MosaicPair, mosaic: int = 0) -> None:
        """Measure a mosaic.

        Args:
            comparison: The whole of it.
            mosaic: Its number.
        """
        self.rows[mosaic] = torch.tensor(self.row(comparison), dtype=torch.float64)
        self.seen[mosaic] = 1

    def compute(self) -> Tensor:
        """Rows ``float64 (mosaics, columns)``; NaN for mosaics that nobody measured."""
        return torch.where(self.seen[:, None] > 0, self.rows, torch.nan)

    def named(self, comparison: MosaicPair) -> dict[str, float]:
        """The numbers of one mosaic by column."""
        return dict(zip(self.columns, self.row(comparison), strict=True))

    @abstractmethod
    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """The numbers of one mosaic, in the order of ``columns``; NaN for those that do not exist."""


class CellScore(Metric):
    """A score of cells at the threshold of a comparison, and at the best one if wanted.

    Stands before :class:`~lightning_emseg.metrics.classes.MosaicMetric` among the bases of a metric. Its columns
    are ``<name>``, ``<name>_split``, ``<name>_merge``, then ``<name>_max`` and ``<name>_max_threshold`` (0–1, of the
    foreground's probability). A 3D mosaic is scored as one volume; ISBI 2012 scores sections and averages them.

    Attributes:
        name: Begins the columns.
    """

    name: ClassVar[str]
    columns: tuple[str, ...]

    def __init__(self, thinned: bool = True, max_over_thresholds: bool = False, mosaics: int = 1) -> None:
        """Name the columns; arguments are told of here, as ``--help`` of a subclass looks nowhere else.

        Args:
            thinned: Whether predicted borders are thinned to one pixel first, as ISBI 2012 does; if not, columns begin
                with ``<name>_unthinned``.
            max_over_thresholds: Whether to add the best over ISBI 2012's thresholds, which takes 11 segmentations.
            mosaics: Number of mosaics.
        """
        self.thinned, self.max_over_thresholds = thinned, max_over_thresholds
        self._mosaic_score = cell_score(self.name, self.score, thinned, max_over_thresholds)
        self.columns = self._mosaic_score.columns
        super().__init__(mosaics=mosaics)

    @staticmethod
    @abstractmethod
    def score(table: Contingency) -> SplitMerge:
        """The score of a table."""

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """Score, split and merge parts, and the best over thresholds if wanted."""
        return self._mosaic_score.row(comparison)


class VRand(CellScore, MosaicMetric):
    """V-Rand of cells: see :func:`~.rand_scores.v_rand`, and :class:`~.cell_score.CellScore` for the columns."""

    name = "v_rand"
    score = staticmethod(v_rand)


class AdaptedRand(MosaicMetric):
    """ARAND of the cells as they are, with precision and recall: see :func:`~.rand_scores.adapted_rand`."""

    columns = ADAPTED_RAND.columns

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """Error, precision, recall."""
        return ADAPTED_RAND.row(comparison)


class VInfo(CellScore, MosaicMetric):
    """V-Info of cells: see :func:`~.information_scores.v_info`, and :class:`~.cell_score.CellScore` for columns."""

    name = "v_info"
    score = staticmethod(v_info)


class VariationOfInformation(MosaicMetric):
    """VOI of the cells, in bits, with its parts: see :func:`~.information_scores.variation_of_information`."""

    columns = VARIATION_OF_INFORMATION.columns

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """Sum, split and merge parts."""
        return VARIATION_OF_INFORMATION.row(comparison)


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

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """At the comparison's threshold and at 0.5."""
        known = None if comparison.all_known else comparison.known
        return tuple(
            labelled_objects_iou(comparison.truth, comparison.probability >= level, known)
            for level in (comparison.level, level_of(0.5))
        )


class CleftDistances(MosaicMetric):
    """ADGT, ADF and CREMI score of whole mosaics, in nm on the anisotropic grid; lower is better.

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

    Args:
        mosaics: Number of mosaics; a module sets it to that of its data.
    """

    columns = CLEFT_DISTANCES.columns

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """ADGT, ADF and CREMI score in nm, 0 or more; see the class for empty masks.

        Args:
            comparison: Of ``(Y, X)`` or ``(Z, Y, X)`` px, whose pixel sizes make nm of them.
        """
        return CLEFT_DISTANCES.row(comparison)


class SurfaceDistances(MosaicMetric):
    """ASSD and HD95 between the surfaces of true and predicted foreground of whole mosaics, in nm.

    See :func:`~.surface_scores.average_symmetric_surface_distance` and :func:`~.surface_scores.hausdorff95`. The border
    of the image counts as a surface where foreground touches it, as in MONAI; the border of an ignored area does not.
    Columns ``assd_nm`` and ``hausdorff95_nm``.

    Args:
        mosaics: Number of mosaics; a module sets it to that of its data.
    """

    columns = SURFACE_DISTANCES.columns

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """ASSD and HD95 in nm, 0 or more; infinite where one of truth and prediction is empty, NaN where both are.

        Args:
            comparison: Of ``(Y, X)`` or ``(Z, Y, X)`` px, whose pixel sizes make nm of them.
        """
        return SURFACE_DISTANCES.row(comparison)


class SkeletonRecall(MosaicMetric):
    """Skeleton recall and precision, and the number of breaks, of whole mosaics; in planes only.

    See :func:`~.breaks.share_covered` and :func:`~.breaks.breaks`. The skeleton of the prediction is that of all of it,
    and counts where the truth is known.

    Args:
        tolerance_nm: How far beside a skeleton foreground may lie to cover it.
        shortest_break_nm: Breaks count when they are longer than this.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if a length is negative or not finite.
    """

    def __init__(self, tolerance_nm: float, shortest_break_nm: float, mosaics: int = 1) -> None:
        for name, length in (("tolerance_nm", tolerance_nm), ("shortest_break_nm", shortest_break_nm)):
            if not 0 <= length < math.inf:
                raise UserError(f"SkeletonRecall: {name} must be 0 or more nanometers, got {length}")
        self.tolerance_nm, self.shortest_break_nm = tolerance_nm, shortest_break_nm
        self._score = skeleton_recall(tolerance_nm, shortest_break_nm)
        self.columns = self._score.columns
        super().__init__(mosaics)

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """Skeleton recall, skeleton precision, breaks, breaks a millimeter (NaN without a true skeleton).

        Raises:
            UserError: if the mosaic is a volume.
        """
        return self._score.row(comparison)


class TolerantF1(MosaicMetric):
    """F1, precision and recall with a tolerance, of whole mosaics; see :func:`~.tolerance.tolerant_scores`.

    For each tolerance t the columns ``f1_within_<t>nm``, ``precision_within_<t>nm`` and ``recall_within_<t>nm``.

    Args:
        tolerance_nm: One or several tolerances, in nm.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if a tolerance is negative or not finite, or given twice.
    """

    def __init__(self, tolerance_nm: list[float] | float, mosaics: int = 1) -> None:
        self.tolerances_nm = tuple(tolerance_nm) if isinstance(tolerance_nm, list) else (tolerance_nm,)
        if not all(0 <= tolerance < math.inf for tolerance in self.tolerances_nm):
            raise UserError(f"TolerantF1: tolerance_nm must be 0 or more nanometers, got {tolerance_nm}")
        self._score = tolerant_f1(self.tolerances_nm)
        self.columns = self._score.columns
        if len(set(self.columns)) < len(self.columns):
            raise UserError(f"TolerantF1: tolerance_nm names a tolerance twice, got {tolerance_nm}; give it once")
        super().__init__(mosaics)

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """F1, precision and recall at the first tolerance, at the next, and so on."""
        return self._score.row(comparison)


class UriscF1(MosaicMetric):
    """U-RISC's score with a binary truth, of whole mosaics: see :func:`~.urisc.urisc_binary_score`; in planes only.

    A store's labels are binary, so this is not the official score of grey truths, which ``emseg score --official
    urisc`` gives.

    Args:
        bound_pix: Radius in px of the disk that grows both masks; 0 in the competition.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if the radius is negative.
    """

    columns = ("urisc_binary_f1", "urisc_binary_precision", "urisc_binary_recall")

    def __init__(self, bound_pix: int = 0, mosaics: int = 1) -> None:
        if bound_pix < 0:
            raise UserError(f"UriscF1: bound_pix must be 0 or more pixels, got {bound_pix}")
        self.bound_pix = bound_pix
        super().__init__(mosaics)

    def row(self, comparison: MosaicPair) -> tuple[float, ...]:
        """F1, precision and recall.

        Raises:
            UserError: if the mosaic is a volume.
        """
        check_is_plane(comparison, "UriscF1", "scores")
        found = urisc_binary_score(comparison.truth, comparison.predicted, self.bound_pix)
        return found.f1, found.precision, found.recall
