"""Tables that can be sorted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_emseg.report.page.wording import figure, with_error


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: What is shown.
        value: What rows are sorted by; NaN comes last, and ``None`` sorts by the text.
        full: More digits or words, shown on hovering.
    """

    text: str
    value: float | None = None
    full: str = ""

    @property
    def key(self) -> str:
        """The value for the page's script; empty where it does not exist."""
        return "" if self.value is None or math.isnan(self.value) else repr(self.value)


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header.

    Attributes:
        caption: What it shows.
        columns: One a cell.
        rows: That can be sorted.
        foot: That stay below, e.g. the mean.
        marked: Numbers of rows that stand out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Sequence[Cell]] = ()
    marked: frozenset[int] = frozenset()


def number_cell(value: float) -> Cell:
    """A number."""
    return Cell(figure(value), value, "" if math.isnan(value) else repr(value))


def mean_cell(mean: float, error: float | None) -> Cell:
    """A mean with its standard error, sorted by the mean."""
    full = "" if math.isnan(mean) else f"{mean!r}" + ("" if error is None else f" ± {error!r}")
    return Cell(with_error(mean, error), mean, full)
