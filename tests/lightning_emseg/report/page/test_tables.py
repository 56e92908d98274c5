"""Cells of tables that can be sorted."""

import math

import pytest

from lightning_emseg.report.page.tables import Cell


@pytest.mark.parametrize(
    ("cell", "key"), [(Cell("0.5", 0.5), "0.5"), (Cell("−2", -2.0), "-2.0"), (Cell("–", math.nan), ""), (Cell("a"), "")]
)
def test_numbers_are_sorted_by_value_others_last(cell: Cell, key: str) -> None:
    assert cell.key == key
