"""What the outputs of a network stand for: one foreground, or several classes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from data_modules.errors import UserError
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.losses.cross_entropy import CrossEntropyLoss
from lightning_emseg.losses.focal_dice import FocalDiceLoss
from lightning_emseg.metrics.by_class import check_columns, measured_by_class
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.confusion import class_scores
from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.mosaic_counts import MosaicConfusions, MosaicHistograms
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.segmentation.cell_score import CellScore
from lightning_emseg.metrics.table import Row, ScoreTable, mean_curves, score_rows
from lightning_emseg.metrics.threshold import Criterion, choose_level
from lightning_emseg.modules.base_outputs import Outputs, Partial
from lightning_emseg.modules.logged_scores import class_tile_scores, tile_scores


class ForegroundOutput(Outputs):
    """One map: the probability of the foreground, cut at a threshold."""

    def default_loss(self) -> nn.Module:
        """Focal + dice (Shi et al. 2021, eqs. 1–2)."""
        return FocalDiceLoss()

    def probability(self, logits: Tensor) -> Tensor:
        """``(B, *S)``."""
        foreground = logits[:, 0].float()
        # A logit that overflowed must not pass for certainty: 0 · ∞ is NaN.
        return torch.add(torch.sigmoid(foreground), foreground, alpha=0)

    def counted(self, probability: Tensor) -> Tensor:
        """Quantised probabilities; 255 is certain foreground."""
        return (probability.float() * 255).round().to(torch.uint8)

    def counted_rows(self, rows: StitchedRows) -> Tensor:
        """Quantised probabilities; 255 is certain foreground."""
        return rows.probability

    def counts(self, mosaics: int) -> Metric:
        """Histograms ``int64 (mosaics, 2, 256)``."""
        return MosaicHistograms(mosaics)

    def choose_level(self, counts: Counts, criterion: Criterion) -> int | None:
        """By ``criterion``."""
        return choose_level(counts, criterion)

    def tile_scores(self, counts: Counts, level: int, loss: float) -> dict[str, float]:
        """Scores at ``level``."""
        return tile_scores(counts, level, loss)

    def table(
        self, keys: Sequence[str], counts: Counts, label: str, level: int, criterion: str, partial: Partial
    ) -> ScoreTable:
        """Scores at ``level`` and their curves over all levels."""
        rows = score_rows(keys, counts, label, level)
        return ScoreTable(label, level / 255, criterion, rows, mean_curves(counts), partial)

    def check_metrics(self, metrics: Sequence[MosaicMetric]) -> None:
        """All of them are of one foreground."""

    def logged(self, metrics: Sequence[MosaicMetric]) -> set[str]:
        """The metrics' own."""
        return set(_columns(metrics))

    def measure(
        self,
        metrics: Sequence[MosaicMetric],
        truth: NDArray[np.uint8],
        found: NDArray[np.uint8],
        level: int,
        pixel_size_nm: Sequence[float],
    ) -> Row:
        """The metrics' own columns, at ``level``."""
        return _measured(metrics, Comparison(truth, found, level, pixel_size_nm))


class ClassOutputs(Outputs):
    """One map for each of several classes, of which the most probable one counts.

    Args:
        classes: Names, the background first.

    Raises:
        UserError: if there are fewer than two, two of one name, or one whose name a column of scores has.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not 2 <= len(classes) < 255 or len(set(classes)) < len(classes):
            raise UserError(f"model.classes must name the background and at least one more class, got {list(classes)}")
        if taken := {"mean", "background"} & set(classes[1:]):
            raise UserError(
                f"model.classes: {' and '.join(sorted(taken))} has columns of its own in tables of scores: rename that "
                "class, or put the background first"
            )
        self.classes = tuple(classes)

    def default_loss(self) -> nn.Module:
        """Cross-entropy without weights."""
        return CrossEntropyLoss()

    def probability(self, logits: Tensor) -> Tensor:
        """``(B, C, *S)``, of which each pixel's sum to 1."""
        maps = logits.float()
        # Softmax makes NaN of infinity and of NaN by itself, but a certain 0 of −∞; 0 · ∞ is NaN.
        return torch.add(torch.softmax(maps, dim=1), maps.sum(dim=1, keepdim=True), alpha=0)

    def counted(self, probability: Tensor) -> Tensor:
        """Positions of the most probable classes; the first of equals."""
        return probability.argmax(dim=1).to(torch.uint8)

    def counted_rows(self, rows: StitchedRows) -> Tensor:
        """Positions of the most probable classes."""
        assert rows.classes is not None
        return rows.classes

    def counts(self, mosaics: int) -> Metric:
        """Confusions ``int64 (mosaics, C, C)``."""
        return MosaicConfusions(mosaics, len(self.classes))

    def choose_level(self, counts: Counts, criterion: Criterion) -> int | None:
        """None: the most probable class needs no threshold."""
        return None

    def tile_scores(self, counts: Counts, level: int, loss: float) -> dict[str, float]:
        """Means over the classes but the background, and the IoU of each."""
        return class_tile_scores(counts, self.classes, loss)

    def table(
        self, keys: Sequence[str], counts: Counts, label: str, level: int, criterion: str, partial: Partial
    ) -> ScoreTable:
        """Scores of every class; the columns of the foreground are the means over all classes but the background."""
        rows = {key: class_scores(each, self.classes) for key, each in zip(keys, counts, strict=True)}
        return ScoreTable("mean", float("nan"), "the most probable class", rows, {}, partial)

    def check_metrics(self, metrics: Sequence[MosaicMetric]) -> None:
        """Refuse those that need the probability itself, and columns of one name."""
        for metric in metrics:
            if isinstance(metric, CellScore) and metric.max_over_thresholds:
                raise UserError(
                    f"model.metrics: {type(metric).__name__} with max_over_thresholds needs the probability of one "
                    "foreground, and model.classes keeps the most probable class: leave that argument out"
                )
        check_columns(self.classes, _columns(metrics))

    def logged(self, metrics: Sequence[MosaicMetric]) -> set[str]:
        """The IoU of each class, and of the metrics the means and those of each class."""
        columns = _columns(metrics)
        return {*columns, *(f"{name}_{column}" for name in self.classes[1:] for column in ("iou", *columns))}

    def measure(
        self,
        metrics: Sequence[MosaicMetric],
        truth: NDArray[np.uint8],
        found: NDArray[np.uint8],
        level: int,
        pixel_size_nm: Sequence[float],
    ) -> Row:
        """Of every class but the background, each against all else: ``<class>_<column>``, and ``mean_<column>``."""
        return measured_by_class(
            truth, found, self.classes, pixel_size_nm, lambda compared: _measured(metrics, compared())
        )


def _columns(metrics: Sequence[MosaicMetric]) -> list[str]:
    return [column for metric in metrics for column in metric.columns]


def _measured(metrics: Sequence[MosaicMetric], comparison: Comparison) -> Row:
    return {name: value for metric in metrics for name, value in metric.named(comparison).items()}


def outputs_of(classes: Sequence[str] | None) -> Outputs:
    """Outputs of a network for ``model.classes``."""
    return ForegroundOutput() if classes is None else ClassOutputs(classes)


def maps_of(classes: Sequence[str] | None) -> int:
    """Number of maps that a network returns for ``model.classes``."""
    return 1 if classes is None else len(classes)
