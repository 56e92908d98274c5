"""The table of two runs."""

import math
from pathlib import Path

import pytest

from lightning_emseg.report.page.run_files import read_runs
from lightning_emseg.report.page.sections.comparing import comparisons
from tests.support.example_run import KEYS, score_row, write_run, write_scores


def test_means_are_of_mosaics_with_both_scores(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / name) for name in ("one", "two"))
    write_scores(first, dict(zip(KEYS, map(score_row, (0.8, 0.7, 0.9, 0.6)), strict=True)))
    write_scores(second, dict(zip(KEYS, map(score_row, (0.7, 0.6, 0.5, math.nan)), strict=True)))
    (found,) = comparisons(read_runs([first, second]))
    assert found.table is not None
    cells = next(row for row in found.table.rows if row[0].text == "membrane F1")
    # Of the first three mosaics.
    assert [cell.value for cell in cells[1:4]] == [pytest.approx(value) for value in (0.8, 0.6, -0.2)]
    assert [cell.text for cell in cells[1:3]] == ["0.8000", "0.6000"]
