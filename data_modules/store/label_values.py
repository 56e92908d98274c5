"""Which values of a label are foreground, or which class each of them is."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store.reader import ArrayRef

_FEW = 8
"""Values up to which comparing one by one is faster than looking them up."""
_UNKNOWN = 254
"""In tables of classes, of which there are fewer."""


def foreground_values(key: str, label: str, mask: ArrayRef, names: Sequence[str | int]) -> tuple[int, ...]:
    """Values of a label that count as foreground; none of instances stands for all of them.

    Args:
        key: Of the sample, for messages.
        label: Name of the label.
        mask: The label.
        names: Classes by name or value, or ids of instances.

    Raises:
        UserError: if a class is unknown, or a label with classes has no foreground.
    """
    info = mask.info
    assert info is not None
    if info.kind == "binary":
        if names and list(names) != [1]:
            raise UserError(f"label {label!r} of {key} is binary: leave out data.foreground ({list(names)})")
        return (1,)
    if info.kind == "instances":
        return tuple(int(name) for name in names)
    if not names:
        known = ", ".join(info.classes.values())
        raise UserError(
            f"label {label!r} of {key} has classes ({known}): say which are foreground, "
            "e.g. --data.foreground '[mitochondrion]'"
        )
    values = {name: value for value, name in info.classes.items()} | {value: value for value in info.classes}
    unknown = [name for name in names if name not in values]
    if unknown:
        raise UserError(f"label {label!r} of {key} has no class {unknown}; it has {dict(info.classes)}")
    return tuple(values[name] for name in names)


def class_values(key: str, label: str, mask: ArrayRef, names: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Value and name of each class, in the order of ``names``.

    Args:
        key: Of the sample, for messages.
        label: Name of the label.
        mask: The label.
        names: Of all its classes.

    Raises:
        UserError: if the label is not of kind ``classes``, or has other classes.
    """
    info = mask.info
    assert info is not None
    if info.kind != "classes":
        raise UserError(
            f"label {label!r} of {key} is {info.kind}, so that it has no classes: leave out data.classes, or convert "
            "it with --kind classes"
        )
    values = {name: value for value, name in info.classes.items()}
    unknown, missing = [name for name in names if name not in values], [name for name in values if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        raise UserError(
            f"label {label!r} of {key} has the classes {list(values)}, but data.classes names {list(names)}: name all "
            "of them once, the background first"
        )
    return tuple((values[name], name) for name in names)


def class_positions(values: NDArray[np.uint8], classes: tuple[tuple[int, str], ...], what: str) -> NDArray[np.uint8]:
    """Position of each pixel's class; 255 stays.

    Args:
        values: Of a label.
        classes: Value and name of each class.
        what: The label, for messages.

    Raises:
        UserError: if a value is no class.
    """
    found: NDArray[np.uint8] = _table(classes)[values]
    if (found == _UNKNOWN).any():
        unknown = sorted(set(values[found == _UNKNOWN].tolist()))
        raise UserError(f"{what} has the values {unknown}, which are no class of it: convert it again with all classes")
    return found


@lru_cache
def _table(classes: tuple[tuple[int, str], ...]) -> NDArray[np.uint8]:
    table = np.full(256, _UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[[value for value, _ in classes]] = np.arange(len(classes), dtype=np.uint8)
    table.flags.writeable = False
    return table


def is_one_of(values: NDArray[Any], chosen: Sequence[int]) -> NDArray[np.bool_]:
    """Where values, of any shape and integer type, are among the chosen ones."""
    if len(chosen) > _FEW:
        return np.isin(values, np.asarray(chosen, values.dtype))
    found: NDArray[np.bool_] = values == chosen[0]
    for value in chosen[1:]:
        found |= values == value
    return found
