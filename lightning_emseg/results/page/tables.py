"""Numbers, names and sortable tables as a reader wants them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_emseg.core.tables import MeanSE

NOTHING = "–"
"""Stands for a value that does not exist."""
_WORDS = {
    **{word: word.upper() for word in ("f1", "tp", "fp", "fn", "tn", "arand", "voi", "assd")},
    **{"iou": "IoU", "urisc": "U-RISC", "hausdorff95": "Hausdorff 95"},
}


@dataclass(frozen=True)
class PageCell:
    """Cell of a table.

    Attributes:
        text: Shown text.
        value: Value that rows are sorted by; NaN comes last, and ``None`` sorts by the text.
        full: More digits or words, shown on hovering.
    """

    text: str
    value: float | None = None
    full: str = ""

    @property
    def key(self) -> str:
        """Value for the page's script; empty where it does not exist."""
        return "" if self.value is None or math.isnan(self.value) else repr(self.value)


@dataclass(frozen=True)
class PageTable:
    """Table; the first cell of each row is its header.

    Attributes:
        caption: Subject.
        columns: Header of each column.
        rows: Rows that can be sorted.
        foot: Rows that stay below, e.g. the mean.
        marked: Numbers of rows that stand out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[PageCell]]
    foot: Sequence[Sequence[PageCell]] = ()
    marked: frozenset[int] = frozenset()


def number_cell(value: float) -> PageCell:
    """Show a number."""
    return PageCell(format_value(value), value, "" if math.isnan(value) else repr(value))


def mean_cell(found: MeanSE) -> PageCell:
    """Show a mean with its standard error, sorted by the mean."""
    full = "" if math.isnan(found.mean) else f"{found.mean!r}" + ("" if found.se is None else f" ± {found.se!r}")
    return PageCell(with_error(found.mean, found.se), found.mean, full)


def format_value(value: float) -> str:
    """Format a number with as many digits as its size deserves.

    >>> format_value(0.82329), format_value(25958.24), format_value(12.5), format_value(1), format_value(float("nan"))
    ('0.8233', '25,958', '12.50', '1', '–')
    """
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else str(value)
    if 0 < abs(value) < 0.001:
        return f"{value:.2e}".replace("-", "−")
    whole = value == round(value) and abs(value) >= 2
    return f"{value:,.{0 if whole else _decimals(value)}f}".replace("-", "−")


def with_error(mean: float, error: float | None) -> str:
    """Format ``mean ± SE`` with as many decimals in both; the mean alone where there is no error.

    >>> with_error(1871.68, 105.777), with_error(0.5, None)
    ('1,872 ± 106', '0.5000')
    """
    if error is None or math.isnan(error):
        return format_value(mean)
    decimals = _decimals(mean)
    # An error that would be rounded to nothing is worth more digits.
    told = f"{error:,.{decimals}f}" if error == 0 or error >= 0.5 * 10**-decimals else format_value(error)
    return f"{mean:,.{decimals}f}".replace("-", "−") + f" ± {told}"


def column_title(column: str) -> str:
    """Spell out the name of a column.

    >>> list(map(column_title, ("membrane_f1", "background_iou_at_0.5", "v_rand_split", "assd_nm")))
    ['membrane F1', 'background IoU at 0.5', 'V-Rand split', 'ASSD (nm)']
    """
    first, *others = [_WORDS.get(word, word) for word in column.split("_")]
    words = [f"V-{others[0].capitalize()}", *others[1:]] if first == "v" and others else [first, *others]
    return " ".join([*words[:-1], "(nm)"] if words[-1] == "nm" else words)


def count(number: int, thing: str) -> str:
    """Format a number of things.

    >>> count(1, "mosaic"), count(3, "mosaic")
    ('1 mosaic', '3 mosaics')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _decimals(value: float) -> int:
    return next((decimals for limit, decimals in ((1000, 0), (10, 2)) if abs(value) >= limit), 4)
