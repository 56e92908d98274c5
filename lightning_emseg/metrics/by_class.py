"""Metrics of one foreground for every one of several classes, each against all else."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.confusion import SCORES
from lightning_emseg.metrics.table import Row, summarise

Measure = Callable[[Callable[[], Comparison]], Row]
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
        found[f"mean_{column}"] = summarise(list(values.values())).mean
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
) -> Comparison:
    labels = (truth == position).view(np.uint8)
    labels[truth == IGNORE] = IGNORE
    # Maps on disk stay what they are when they are compared, which metrics need not know.
    mask = (np.asarray(predicted) == position).view(np.uint8) * np.uint8(255)
    return Comparison(labels, mask, _LEVEL, pixel_size_nm)
