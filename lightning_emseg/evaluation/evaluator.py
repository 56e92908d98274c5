"""Scores of one foreground and of several classes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.core.tables import mean_se
from lightning_emseg.evaluation.score_table import Row, ScoreTable
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.pixels import (
    SCORES,
    Counts,
    Values,
    average_precision,
    class_scores,
    confusion_at,
    roc_auc,
)

Measure = Callable[[Callable[[], MosaicPair]], Row]
"""Numbers of one foreground by column, from a function that makes a new comparison at each call."""
_LEVEL = 128
"""Threshold of masks of 0 and 255, which any would cut alike."""


def measured_by_class(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    names: Sequence[str],
    pixel_size_nm: Sequence[float],
    measure: Measure,
) -> Row:
    """Measure a whole mosaic for every class but the background, as one foreground against all else.

    Args:
        truth: ``uint8 (*S)``, positions of classes; 255 is ignored.
        predicted: ``uint8 (*S)``, positions of the predicted classes.
        names: Of the classes, the background first.
        pixel_size_nm: One value an axis.
        measure: See :data:`Measure`; a prediction is a mask of 0 and 255, so that its probability says nothing more
            than the decision.

    Returns:
        For each column ``mean_<column>`` over the classes behind the first, then ``<class>_<column>`` of each. Classes
        whose value is NaN have no part in the mean; it is NaN where all are, and infinite where one is.

    Raises:
        ValueError: if the shapes differ, or there is not one pixel size an axis.
    """
    rows = {
        name: measure(partial(_of_class, truth, predicted, position, pixel_size_nm))
        for position, name in enumerate(names[1:], start=1)
    }
    found: Row = {}
    for column in next(iter(rows.values())):
        values = {name: row[column] for name, row in rows.items()}
        found[f"mean_{column}"] = mean_se(list(values.values())).mean
        found |= {f"{name}_{column}": value for name, value in values.items()}
    return found


def check_columns(names: Sequence[str], columns: Iterable[str]) -> None:
    """Refuse names of classes under which two columns of a table of scores would have one name.

    Args:
        names: Of the classes, the background first.
        columns: Of metrics of one foreground.

    Raises:
        UserError: naming such columns.

    >>> check_columns(["background", "axon", "axon_skeleton"], ["skeleton_recall"])
    Traceback (most recent call last):
    ...
    data_modules.errors.UserError: two columns of scores would be named axon_skeleton_recall: rename a class, or \
leave a metric out
    """
    behind = names[1:]
    made = Counter(f"{name}_{column}" for name in ("mean", *behind) for column in (*SCORES, *columns))
    if twice := [column for column, times in made.items() if times > 1]:
        raise UserError(
            f"two columns of scores would be named {', '.join(twice)}: rename a class, or leave a metric out"
        )


def _of_class(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], position: int, pixel_size_nm: Sequence[float]
) -> MosaicPair:
    labels = (truth == position).view(np.uint8)
    labels[truth == IGNORE] = IGNORE
    # Maps on disk stay what they are when they are compared, which metrics need not know.
    mask = (np.asarray(predicted) == position).view(np.uint8) * np.uint8(255)
    return MosaicPair(labels, mask, _LEVEL, pixel_size_nm)


# Of the foreground; the score files have every column.
_LOGGED = ("f1", "precision", "recall", "iou", "average_precision", "roc_auc", "background_f1")


def tile_scores(counts: Counts, level: int, loss: float) -> dict[str, float]:
    """``val_tiles/*``: scores of the pixels of all tiles pooled.

    Args:
        counts: ``int64 (2, 256)``.
        level: Quantised threshold.
        loss: Mean loss of a tile.
    """
    found = confusion_at(counts, level)
    values: dict[str, float | Values] = {
        "loss": loss,
        "f1": found.f1,
        "precision": found.precision,
        "recall": found.recall,
        "iou": found.iou,
        "background_f1": found.of_background().f1,
        "average_precision": average_precision(counts),
        "roc_auc": roc_auc(counts),
        "threshold": level / 255,
    }
    return {f"val_tiles/{name}": float(value) for name, value in values.items()}


def class_tile_scores(counts: Counts, classes: Sequence[str], loss: float) -> dict[str, float]:
    """``val_tiles/*``: means over all classes but the background, and the IoU of each, of all tiles pooled.

    Args:
        counts: ``int64 (C, C)``, a row for each true class.
        classes: Names, the background first.
        loss: Mean loss of a tile.
    """
    found = class_scores(counts, classes)
    short = {name.removeprefix("mean_"): value for name, value in found.items() if name.startswith("mean_")}
    ious = {f"{name}_iou": found[f"{name}_iou"] for name in ("background", *classes[1:])}
    values = {"loss": loss, **short, "background_f1": found["background_f1"], **ious}
    return {f"val_tiles/{name}": value for name, value in values.items()}


def mosaic_scores(verb: str, table: ScoreTable, columns: Collection[str]) -> dict[str, float]:
    """``val/*`` or ``test/*``: means over mosaics and their standard errors, the foreground's without its name.

    Args:
        verb: ``val`` or ``test``.
        table: Of whole mosaics.
        columns: Those that are logged beside the pixel scores of the foreground, without its name.
    """
    values = {}
    for name, summary in table.summary.items():
        short = name.removeprefix(f"{table.label}_")
        if short in _LOGGED or short in columns:
            values[f"{verb}/{short}"] = summary.mean
            if summary.se is not None:
                values[f"{verb}/{short}_se"] = summary.se
    return values
