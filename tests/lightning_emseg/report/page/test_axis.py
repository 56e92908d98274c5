"""Axes of plots."""

import itertools
import math

from hypothesis import assume, given
from hypothesis import strategies as st

from lightning_emseg.report.page.axis import Axis, linear_ticks

finite = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(finite, finite)
def test_linear_ticks_are_few_even_and_within(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assume(high - low > 1e-6 * max(1.0, abs(low), abs(high)))
    ticks = linear_ticks(low, high)
    slack = 1e-6 * (high - low)
    assert 2 <= len(ticks) <= 7
    assert low - slack <= ticks[0] < ticks[-1] <= high + slack
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert max(gaps) - min(gaps) <= 1e-5 * max(gaps)


@given(st.lists(finite, min_size=1))
def test_fitted_linear_axis_holds_every_value(values: list[float]) -> None:
    assume(len(set(values)) == 1 or max(values) - min(values) > 1e-6 * max(map(abs, values)))
    scale = Axis("").fit(values)
    assert all(-1e-6 <= scale.share(value) <= 1 + 1e-6 for value in values)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1))
def test_log_axis_spans_whole_decades(values: list[float]) -> None:
    scale = Axis("", log=True).fit([*values, 0.0, -1.0, math.nan])
    assert all(-1e-6 <= scale.share(value) <= 1 + 1e-6 for value in values)
    assert math.log10(scale.low) % 1 == 0
    assert math.isclose(scale.share(math.sqrt(scale.low * scale.high)), 0.5, abs_tol=1e-9)


def test_given_limits_are_kept() -> None:
    scale = Axis("", limits=(0.0, 1.0)).fit([0.4, 0.6])
    assert (scale.low, scale.high) == (0.0, 1.0)
    assert scale.ticks == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_empty_axis_still_has_ticks() -> None:
    assert len(Axis("").fit([]).ticks) > 1
    assert len(Axis("", log=True).fit([]).ticks) > 1
