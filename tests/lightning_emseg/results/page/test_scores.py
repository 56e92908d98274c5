"""Paired comparisons of two runs."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.results.page.scores import ambiguous_mosaics, common_mosaics, comparisons, paired_difference
from lightning_emseg.results.runs import read_runs
from tests.support.example_run import KEYS, score_row, write_run, write_scores


def scores(rows: dict[str, dict[str, float]]) -> ScoreTable:
    return ScoreTable("membrane", 0.5, "", rows)


def exact_wilcoxon(differences: list[float]) -> float:
    """Share of all sign patterns whose rank sum is as far from its mean; without ties and zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    middle = ranks.sum() / 2
    found = abs(ranks[np.array(differences) > 0].sum() - middle)
    patterns = itertools.product((0, 1), repeat=len(ranks))
    return float(np.mean([abs(np.dot(pattern, ranks) - middle) >= found - 1e-9 for pattern in patterns]))


@given(st.lists(st.integers(-1000, 1000).filter(bool), min_size=2, max_size=8, unique_by=abs))
def test_wilcoxon_matches_all_sign_patterns(differences: list[int]) -> None:
    found = paired_difference([0.0] * len(differences), [float(value) for value in differences])
    assert found.wilcoxon_p == pytest.approx(exact_wilcoxon([float(value) for value in differences]))


def test_t_test_matches_its_closed_form() -> None:
    differences = np.array([0.1, 0.3, 0.2])
    found = paired_difference([0.5, 0.6, 0.7], (np.array([0.5, 0.6, 0.7]) + differences).tolist())
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(3))
    assert found.t_p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.difference == pytest.approx(0.2)
    assert found.se == pytest.approx(0.1 / math.sqrt(3))
    assert found.mosaics == 3


def test_swapping_runs_only_flips_the_sign() -> None:
    one, two = [0.1, 0.5, 0.7, 0.2], [0.2, 0.4, 0.9, 0.8]
    forth, back = paired_difference(one, two), paired_difference(two, one)
    assert forth.difference == -back.difference
    assert (forth.se, forth.t_p, forth.wilcoxon_p) == (back.se, back.t_p, back.wilcoxon_p)


@pytest.mark.parametrize(
    ("first", "second", "mosaics"),
    [([], [], 0), ([0.5], [0.6], 1), ([0.5, 0.6], [0.5, 0.6], 2), ([math.nan, 0.5], [0.5, 0.6], 1)],
)
def test_undefined_tests_are_nan(first: list[float], second: list[float], mosaics: int) -> None:
    found = paired_difference(first, second)
    assert found.mosaics == mosaics
    assert math.isnan(found.t_p)
    assert math.isnan(found.wilcoxon_p)


def test_equal_differences_have_no_t() -> None:
    assert math.isnan(paired_difference([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]).t_p)


def test_mosaics_with_different_truth_are_distinct() -> None:
    first = scores({"test/15": score_row(0.5), "test/16": score_row(0.5)})
    second = scores({"test/15": score_row(0.5, foreground=999), "test/16": score_row(0.9), "test/17": score_row(0.5)})
    assert common_mosaics(first, second) == ["test/16"]
    assert ambiguous_mosaics([first, second]) == {"test/15"}


def test_mosaics_without_counts_match_by_name() -> None:
    bare = scores({"test/15": {"membrane_f1": 0.5}})
    assert common_mosaics(bare, scores({"test/15": score_row(0.5)})) == ["test/15"]


def test_means_are_of_mosaics_with_both_scores(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / name) for name in ("one", "two"))
    write_scores(first, dict(zip(KEYS, map(score_row, (0.8, 0.7, 0.9, 0.6)), strict=True)))
    write_scores(second, dict(zip(KEYS, map(score_row, (0.7, 0.6, 0.5, math.nan)), strict=True)))
    ((_, _, table),) = comparisons(read_runs([first, second]))
    assert table is not None
    cells = next(row for row in table.rows if row[0].text == "membrane F1")
    # Of the first three mosaics.
    assert [cell.value for cell in cells[1:4]] == [pytest.approx(value) for value in (0.8, 0.6, -0.2)]
    assert [cell.text for cell in cells[1:3]] == ["0.8000", "0.6000"]
