"""Gini coefficients against closed forms and the mean difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_emseg.curation.gini import gini, lorenz_curve, sources_with

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)


@pytest.mark.parametrize("sources", [1, 2, 7])
def test_extreme_distributions_have_extreme_coefficients(sources: int) -> None:
    assert gini([5] * sources) == pytest.approx(0, abs=1e-12)
    assert gini([0] * (sources - 1) + [3]) == pytest.approx(1 - 1 / sources)


def test_coefficient_of_linear_counts_is_known() -> None:
    for number in (2, 10, 101):
        assert gini(list(range(1, number + 1))) == pytest.approx((number - 1) / (3 * number))


@given(COUNTS)
def test_coefficient_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    values = np.array(counts, np.float64)
    difference = np.abs(values[:, None] - values).mean()
    assert gini(counts) == pytest.approx(difference / (2 * values.mean()), abs=1e-9)


@given(COUNTS)
def test_lorenz_curves_are_convex_from_0_to_1(counts: list[int]) -> None:
    curve = lorenz_curve(counts)
    assert (len(curve), curve[0], curve[-1]) == (len(counts) + 1, 0, 1)
    assert (np.diff(curve, 2) >= -1e-12).all()


def test_share_of_sources_that_have_four_fifths() -> None:
    assert sources_with([80, 5, 5, 5, 5], 0.8) == pytest.approx(0.2)
    assert sources_with([79, 6, 5, 5, 5], 0.8) == pytest.approx(0.4)
    assert sources_with([1] * 10, 0.8) == pytest.approx(0.8)
