"""Pixels that are checked, and where they lie."""

from hypothesis import example, given
from hypothesis import strategies as st

from lightning_emseg.attribution.chosen import Chosen, checked_pixels, richest
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.windows import Place


@given(
    windows=st.lists(st.lists(st.sampled_from([*OUTCOMES, ""]), min_size=1, max_size=6), min_size=1, max_size=5),
    count=st.integers(0, 12),
)
@example(windows=[["TP"], ["TP", "TP", "FP", "FN", "TN", ""], ["FN", "FN"]], count=8)
@example(windows=[["TN", "TN"], ["TP", "FP", "FN"]], count=12)
def test_half_of_checked_pixels_share_one_window(windows: list[list[str]], count: int) -> None:
    chosen = [
        Chosen(Place(0, (number, 0), (8, 8)), tuple((at, 0) for at in range(len(names))), tuple(names))
        for number, names in enumerate(windows)
    ]
    checked = checked_pixels(chosen, count)
    total = sum(map(len, windows))
    assert sum(map(len, checked)) == min(count, total)
    for places, each in zip(checked, chosen, strict=True):
        assert list(places) == sorted(set(places))
        assert all(0 <= at < len(each.pixels) for at in places)
    first = richest(chosen)
    assert len(checked[first]) >= min((count + 1) // 2, len(windows[first]))
    if len(checked[first]) >= len(set(windows[first])):
        assert {windows[first][at] for at in checked[first]} == set(windows[first])
