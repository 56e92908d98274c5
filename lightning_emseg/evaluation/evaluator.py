"""Evaluation of (prediction, truth) pairs: counts, scores and tables of one foreground or of several classes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.core.tables import mean_se
from lightning_emseg.evaluation.score_table import COUNTS, Row, ScoreTable
from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from lightning_emseg.metrics.pixels import (
    SCORES,
    Counts,
    Criterion,
    average_precision,
    choose_level,
    class_scores,
    confusion_at,
    level_of,
    mean_curves,
    roc_auc,
)

if TYPE_CHECKING:
    from lightning_emseg.metrics.classes import MosaicMetric  # imports torch, which scores do without

Pixels = NDArray[np.uint8]
WholeMetric: TypeAlias = "MosaicScore | MosaicMetric"
Panel: TypeAlias = Mapping[str, Sequence[WholeMetric]]
"""Metrics of whole mosaics in groups that share what they compute on the way."""
_MASK_LEVEL = 128
"""Threshold of masks of 0 and 255, which any would cut alike."""


class Evaluator:
    """Evaluation of predictions against truths, the same in ``validate``, ``test`` and ``emseg score``.

    Truths are ``uint8``: 0 and 1, or positions of classes, and 255 where nothing is known. Predictions are ``uint8``:
    quantised probabilities of the foreground (255 is certain), or positions of classes.

    Args:
        classes: Names of all classes, the background first; ``None`` for one foreground.
        option: Name of the option that gave the classes, for messages.

    Raises:
        UserError: if there are fewer than two classes, two of one name, or one whose name a column of scores has.
    """

    def __init__(self, classes: Sequence[str] | None = None, option: str = "model.classes") -> None:
        self.classes = tuple(classes or ())
        if classes is None:
            return
        if not 2 <= len(classes) < 255 or len(set(classes)) < len(classes):
            raise UserError(
                f"{option} {list(classes)}: name the background and at least one more class, each of them once"
            )
        if taken := {"mean", "background"} & set(classes[1:]):
            raise UserError(
                f"{option}: {' and '.join(sorted(taken))} has columns of its own in tables of scores: rename that "
                "class, or name the background first"
            )

    def best_level(self, counts: Counts, criterion: Criterion) -> int | None:
        """Choose a quantised threshold from counts of mosaics; ``None`` of classes, which need none."""
        return None if self.classes else choose_level(counts, criterion)

    def row(self, counts: Counts, label: str, level: int) -> Row:
        """Compute the pixel scores of one mosaic.

        Args:
            counts: Counts of one mosaic, or of several added up.
            label: Name of the foreground; columns are ``<label>_f1``, ``background_f1``, ``<label>_f1_at_0.5``, ….
            level: Quantised threshold.

        Returns:
            Scores by column; of classes those of :func:`~lightning_emseg.metrics.pixels.class_scores`.
        """
        if self.classes:
            return class_scores(counts, self.classes)
        row: Row = {}
        for suffix, at in (("", level), ("_at_0.5", level_of(0.5))):
            found = confusion_at(counts, at)
            for name, confusion in ((label, found), ("background", found.of_background())):
                row |= {f"{name}_{score}{suffix}": float(getattr(confusion, score)) for score in SCORES}
        row[f"{label}_average_precision"] = float(average_precision(counts))
        row[f"{label}_roc_auc"] = float(roc_auc(counts))
        found = confusion_at(counts, level)
        return row | {name: int(getattr(found, name)) for name in COUNTS}

    def table(
        self,
        keys: Sequence[str],
        counts: Counts,
        label: str,
        level: int,
        criterion: str,
        partial: Mapping[str, tuple[int, int]] | None = None,
    ) -> ScoreTable:
        """Make the table of pixel scores of whole mosaics.

        Args:
            keys: Names of the mosaics.
            counts: Counts of each.
            label: Name of the foreground; of classes the columns of the foreground are means over all but the first.
            level: Quantised threshold.
            criterion: How the threshold was chosen.
            partial: Mosaics that are not scored: pixels seen and wanted.
        """
        rows = {key: self.row(each, label, level) for key, each in zip(keys, counts, strict=True)}
        if self.classes:
            return ScoreTable("mean", float("nan"), criterion, rows, {}, partial or {})
        return ScoreTable(label, level / 255, criterion, rows, mean_curves(counts), partial or {})

    def measure(self, panel: Panel, truth: Pixels, found: Pixels, level: int, pixel_size_nm: Sequence[float]) -> Row:
        """Measure a whole mosaic; of classes every one but the background, as one foreground against all else.

        Args:
            panel: Metrics.
            truth: ``uint8 (*S)``.
            found: ``uint8 (*S)``.
            level: Quantised threshold of probabilities.
            pixel_size_nm: One value an axis.

        Returns:
            The metrics' columns; of classes ``mean_<column>``, then ``<class>_<column>`` of each. Classes whose value
            is NaN have no part in the mean; it is NaN where all are, and infinite where one is.

        Raises:
            ValueError: if the shapes differ, or there is not one pixel size an axis.
        """
        if not self.classes:
            return _measure(panel, partial(MosaicPair, truth, found, level, pixel_size_nm))
        rows = {
            name: _measure(panel, partial(_class_pair, truth, found, position, pixel_size_nm))
            for position, name in enumerate(self.classes[1:], start=1)
        }
        measured: Row = {}
        for column in next(iter(rows.values())):
            values = {name: row[column] for name, row in rows.items()}
            measured[f"mean_{column}"] = mean_se(values.values()).mean
            measured |= {f"{name}_{column}": value for name, value in values.items()}
        return measured

    def check(self, metrics: Iterable[WholeMetric]) -> None:
        """Refuse metrics that need the probability itself, and classes under which two columns have one name.

        Raises:
            UserError: naming the metric, or the columns.
        """
        metrics = list(metrics)
        for metric in metrics if self.classes else ():
            if metric.needs_probability:
                raise UserError(
                    f"model.metrics: {type(metric).__name__} with max_over_thresholds needs the probability of one "
                    "foreground, and model.classes keeps the most probable class: leave that argument out"
                )
        columns = [*SCORES, *(column for metric in metrics for column in metric.columns)]
        made = Counter(f"{name}_{column}" for name in ("mean", *self.classes[1:]) for column in columns)
        if twice := [column for column, times in made.items() if times > 1 and self.classes]:
            raise UserError(
                f"two columns of scores would be named {', '.join(twice)}: rename a class, or leave a metric out"
            )

    def logged(self, label: str, metrics: Iterable[WholeMetric] = ()) -> dict[str, str]:
        """Name the columns of a score table that are logged, by column; the files have every column."""
        columns = [column for metric in metrics for column in metric.columns]
        first = "mean" if self.classes else label
        names = {f"{first}_{score}": score for score in (*SCORES, "average_precision", "roc_auc")}
        names["background_f1"] = "background_f1"
        if not self.classes:
            return names | {column: column for column in columns}
        names |= {f"mean_{column}": column for column in columns}
        return names | {f"{of}_{each}": f"{of}_{each}" for of in self.classes[1:] for each in ("iou", *columns)}

    def tile_scores(self, counts: Counts, level: int, loss: float) -> dict[str, float]:
        """Compute ``val_tiles/*``: scores of the pixels of all tiles pooled.

        Args:
            counts: Counts of all tiles, added up.
            level: Quantised threshold.
            loss: Mean loss of a tile.
        """
        names = self.logged("foreground")
        row = self.row(counts, "foreground", level)
        values = {"loss": loss, **{name: row[column] for column, name in names.items() if column in row}}
        values |= {"background_iou": row["background_iou"]} if self.classes else {"threshold": level / 255}
        return {f"val_tiles/{name}": value for name, value in values.items()}

    def mosaic_scores(self, verb: str, table: ScoreTable, metrics: Iterable[WholeMetric]) -> dict[str, float]:
        """Collect ``val/*`` or ``test/*``: means over mosaics and their standard errors.

        Args:
            verb: ``val`` or ``test``.
            table: Scores of whole mosaics.
            metrics: Metrics whose columns are logged beside the pixel scores.
        """
        names = self.logged(table.label, metrics)
        values = {}
        for column, found in table.summary.items():
            if column in names:
                values[f"{verb}/{names[column]}"] = found.mean
                if found.se is not None:
                    values[f"{verb}/{names[column]}_se"] = found.se
        return values


def _measure(panel: Panel, make_pair: Callable[[], MosaicPair]) -> Row:
    row: Row = {}
    for metrics in panel.values():
        # Groups share little: what the one before has kept would take a third of the memory.
        pair = make_pair()
        for metric in metrics:
            missing = metric.planes_only and pair.labels.ndim > 2
            values = [np.nan] * len(metric.columns) if missing else metric.row(pair)
            row |= zip(metric.columns, values, strict=True)
        del pair
    return row


def _class_pair(truth: Pixels, found: Pixels, position: int, pixel_size_nm: Sequence[float]) -> MosaicPair:
    """Set one class against all else; its prediction is a mask of 0 and 255."""
    labels = (truth == position).view(np.uint8)
    labels[truth == IGNORE] = IGNORE
    # Maps on disk stay what they are when they are compared, which metrics need not know.
    mask = (np.asarray(found) == position).view(np.uint8) * np.uint8(255)
    return MosaicPair(labels, mask, _MASK_LEVEL, pixel_size_nm)
