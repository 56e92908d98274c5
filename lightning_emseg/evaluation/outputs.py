"""Outputs of a network: one foreground, or several classes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from data_modules.errors import UserError
from lightning_emseg.evaluation.evaluator import check_columns, class_tile_scores, measured_by_class, tile_scores
from lightning_emseg.evaluation.score_table import Row, ScoreTable, score_rows
from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.losses.cross_entropy import CrossEntropyLoss
from lightning_emseg.losses.focal_dice import FocalDiceLoss
from lightning_emseg.metrics.classes import CellScore, MosaicConfusions, MosaicHistograms, MosaicMetric
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.pixels import Counts, Criterion, choose_level, class_scores, mean_curves

Partial = Mapping[str, tuple[int, int]]
"""Mosaics that were seen in part: pixels seen and wanted."""


class Outputs(ABC):
    """How logits become probabilities and decisions, and how these are counted and scored.

    Attributes:
        classes: Names, the background first; empty for one foreground.
    """

    classes: tuple[str, ...] = ()

    @abstractmethod
    def default_loss(self) -> nn.Module:
        """The loss where none is configured."""

    @abstractmethod
    def probability(self, logits: Tensor) -> Tensor:
        """Probabilities, 0–1, of logits ``(B, K, *S)``; NaN where a logit is not finite."""

    @abstractmethod
    def counted(self, probability: Tensor) -> Tensor:
        """What is counted of probabilities: ``uint8 (B, *S)``."""

    @abstractmethod
    def counted_rows(self, rows: StitchedRows) -> Tensor:
        """What is counted of stitched rows, and kept of them where metrics want whole maps: ``uint8``."""

    @abstractmethod
    def counts(self, mosaics: int) -> Metric:
        """Counts of as many mosaics; ``update(mosaic, counted, truth)``, ``compute() -> (counts, pixels seen)``."""

    @abstractmethod
    def choose_level(self, counts: Counts, criterion: Criterion) -> int | None:
        """Quantised threshold that the counts suggest, or ``None`` where outputs need none."""

    @abstractmethod
    def tile_scores(self, counts: Counts, level: int, loss: float) -> dict[str, float]:
        """``val_tiles/*`` of the counts of one mosaic, or of several added up."""

    @abstractmethod
    def table(
        self, keys: Sequence[str], counts: Counts, label: str, level: int, criterion: str, partial: Partial
    ) -> ScoreTable:
        """Scores of whole mosaics, whose counts are ``counts``."""

    @abstractmethod
    def check_metrics(self, metrics: Sequence[MosaicMetric]) -> None:
        """Refuse metrics of whole mosaics that these outputs cannot give.

        Raises:
            UserError: naming the metric.
        """

    @abstractmethod
    def logged(self, metrics: Sequence[MosaicMetric]) -> set[str]:
        """Columns of score tables that are logged beside the pixel scores of the foreground, without its name."""

    @abstractmethod
    def measure(
        self,
        metrics: Sequence[MosaicMetric],
        truth: NDArray[np.uint8],
        found: NDArray[np.uint8],
        level: int,
        pixel_size_nm: Sequence[float],
    ) -> Row:
        """Columns of metrics of one whole mosaic.

        Args:
            metrics: One or more.
            truth: Mask ``uint8 (*S)``; 255 is ignored.
            found: ``uint8 (*S)``, as :meth:`counted_rows` gives it.
            level: Quantised threshold, where there is one.
            pixel_size_nm: One value an axis.
        """


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
        return _measured(metrics, MosaicPair(truth, found, level, pixel_size_nm))


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


def _measured(metrics: Sequence[MosaicMetric], comparison: MosaicPair) -> Row:
    return {name: value for metric in metrics for name, value in metric.named(comparison).items()}


def outputs_of(classes: Sequence[str] | None) -> Outputs:
    """Outputs of a network for ``model.classes``."""
    return ForegroundOutput() if classes is None else ClassOutputs(classes)


def maps_of(classes: Sequence[str] | None) -> int:
    """Number of maps that a network returns for ``model.classes``."""
    return 1 if classes is None else len(classes)
