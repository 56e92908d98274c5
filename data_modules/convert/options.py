"""Options that several converters take, checked in one place."""

from collections.abc import Mapping

from data_modules.convert.labels import Foreground, LabelRule
from data_modules.errors import UserError
from data_modules.store import LabelKind


def check_label_name(name: str) -> None:
    """Refuse what cannot name a label.

    Raises:
        UserError: if it is empty, begins with a dot or has a slash.
    """
    if not name or "/" in name or name.startswith("."):
        raise UserError(f"--label-name {name!r} cannot name a label: no slashes and no leading dot, please")


def label_rule(
    labels: str | None,
    kind: LabelKind,
    foreground: Foreground | None,
    classes: Mapping[int, str] | None,
    threshold: float | None,
    ignore_value: int | None,
) -> LabelRule | None:
    """How labels are to be understood, ``None`` where there are none.

    Args:
        labels: Where they are.
        kind: See :class:`~data_modules.convert.labels.LabelRule`, as the others.
        foreground: Which side of a mask is the object.
        classes: Names by value.
        threshold: Binary values above it are bright.
        ignore_value: Value that counts nowhere.

    Raises:
        UserError: if the options do not fit together, or there are some without labels.
    """
    if labels is not None:
        return LabelRule(kind, foreground, classes or {}, threshold, ignore_value)
    given = {"foreground": foreground, "classes": classes, "threshold": threshold, "ignore-value": ignore_value}
    if useless := [f"--{flag}" for flag, value in given.items() if value is not None]:
        raise UserError(f"{', '.join(useless)} says how to read labels, but there is no --labels")
    return None
