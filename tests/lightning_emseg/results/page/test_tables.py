"""Cells of tables that can be sorted."""

import math

import pytest

from lightning_emseg.results.page.tables import PageCell


@pytest.mark.parametrize(
    ("cell", "key"),
    [(PageCell("0.5", 0.5), "0.5"), (PageCell("−2", -2.0), "-2.0"), (PageCell("–", math.nan), ""), (PageCell("a"), "")],
)
def test_numbers_are_sorted_by_value_others_last(cell: PageCell, key: str) -> None:
    assert cell.key == key
