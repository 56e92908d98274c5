"""Choice and grouping of pixels against plain loops and bounds."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightning_emseg.attribution.points import (
    OUTCOMES,
    ChosenPixels,
    Pixel,
    choose_checked,
    choose_stratified,
    draw_priorities,
    find_outcomes,
    group_pixels,
    richest_window,
)
from lightning_emseg.attribution.windows import Place
from tests.support.attribution_checks import lattice

Mask = NDArray[np.uint8]
Window = tuple[Mask, NDArray[np.bool_], NDArray[np.uint64]]


def name_of(truth: int, predicted: bool) -> str | None:
    table = {(1, True): "TP", (0, True): "FP", (1, False): "FN", (0, False): "TN"}
    return table.get((truth, predicted))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=5))
    truth = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255])))
    predicted = draw(hnp.arrays(np.bool_, shape))
    # Few values, so that equal priorities occur.
    return truth, predicted, draw(hnp.arrays(np.uint64, shape, elements=st.integers(0, 50)))


@given(window=windows())
def test_outcomes_match_brute_force(window: Window) -> None:
    truth, predicted, _ = window
    found = find_outcomes(truth, predicted)
    assert found.dtype == np.uint8
    for pixel in itertools.product(*map(range, truth.shape)):
        name = name_of(int(truth[pixel]), bool(predicted[pixel]))
        assert found[pixel] == (255 if name is None else OUTCOMES.index(name))


def test_outcomes_refuse_invalid_truth() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        find_outcomes(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.bool_))
    with pytest.raises(ValueError, match="other than 0, 1 and 255"):
        find_outcomes(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.bool_))


@given(window=windows(), count=st.integers(0, 6))
def test_lowest_priorities_of_each_outcome_are_chosen(window: Window, count: int) -> None:
    truth, predicted, priority = window
    expected: list[tuple[Pixel, str]] = []
    for name in OUTCOMES:
        every = [p for p in itertools.product(*map(range, truth.shape)) if name_of(truth[p], predicted[p]) == name]
        expected += [(pixel, name) for pixel in sorted(every, key=lambda pixel: int(priority[pixel]))[:count]]
    assert choose_stratified(truth, predicted, count, priority) == expected


@given(seed=st.integers(0, 1000), data=st.data(), axes=st.integers(2, 3))
def test_inner_windows_repeat_the_choice_of_larger_ones(seed: int, data: st.DataObject, axes: int) -> None:
    random = np.random.default_rng(seed)
    shape = (20, 20, 20)[:axes]
    origin = data.draw(st.tuples(*[st.integers(0, 9000)] * axes))
    truth = random.choice(np.array([0, 1, 255], np.uint8), shape)
    predicted = random.random(shape) < 0.5
    start = data.draw(st.tuples(*[st.integers(0, 19)] * axes))
    part = tuple(slice(at, None) for at in start)
    inner_origin = [a + b for a, b in zip(origin, start, strict=True)]
    inner_shape = [side - at for side, at in zip(shape, start, strict=True)]
    inner = choose_stratified(truth[part], predicted[part], 9, draw_priorities((seed, 3), inner_origin, inner_shape))
    seen = {(tuple(a + b for a, b in zip(pixel, start, strict=True)), name) for pixel, name in inner}
    for pixel, name in choose_stratified(truth, predicted, 9, draw_priorities((seed, 3), origin, shape)):
        if all(at >= first for at, first in zip(pixel, start, strict=True)):
            assert (pixel, name) in seen


def test_priorities_of_another_shape_are_refused() -> None:
    truth, predicted = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.bool_)
    with pytest.raises(ValueError, match="differ in shape"):
        choose_stratified(truth, predicted, 1, np.zeros((4, 5), np.uint64))


def assert_groups_are_right(pixels: Sequence[Pixel], apart: Sequence[int], found: list[list[int]]) -> None:
    assert sorted(index for members in found for index in members) == list(range(len(pixels)))
    for members in found:
        places = np.array([pixels[index] for index in members])
        far_apart = (np.abs(places[:, None] - places[None]) >= np.array(apart)).any(axis=-1)
        assert np.all(far_apart | np.eye(len(members), dtype=bool))


def densest_box(pixels: Sequence[Pixel], apart: Sequence[int]) -> int:
    """Most pixels in a box of side ``apart``: any two of them are too close, so each needs a group of its own."""
    places = np.array(pixels)
    counts = np.zeros(places.max(axis=0) + 1, np.int64)
    np.add.at(counts, tuple(places.T), 1)
    for axis, side in enumerate(apart):
        padded = np.pad(counts, [(side - 1, 0) if other == axis else (0, 0) for other in range(counts.ndim)])
        counts = np.lib.stride_tricks.sliding_window_view(padded, side, axis=axis).sum(axis=-1)
    return int(counts.max())


@given(data=st.data(), axes=st.integers(2, 3))
def test_groups_partition_the_pixels_and_keep_them_apart(data: st.DataObject, axes: int) -> None:
    pixels = data.draw(st.lists(st.tuples(*[st.integers(0, 30)] * axes), max_size=40))
    apart = data.draw(st.tuples(*[st.integers(1, 12)] * axes))
    found = group_pixels(pixels, apart)
    assert_groups_are_right(pixels, apart, found)
    if pixels:
        assert len(found) >= densest_box(pixels, apart)


@given(data=st.data(), axes=st.integers(2, 3))
def test_shuffled_lattice_gets_the_fewest_groups(data: st.DataObject, axes: int) -> None:
    count = data.draw(st.tuples(*[st.integers(1, 14 if axes == 2 else 6)] * axes))
    step = data.draw(st.tuples(*[st.integers(1, 10)] * axes))
    apart = data.draw(st.tuples(*[st.integers(1, 40)] * axes))
    shape = [n * by for n, by in zip(count, step, strict=True)]
    pixels = data.draw(st.permutations(lattice(shape, step, [0] * axes)))
    # A lattice narrower than ``apart`` needs no more than it has.
    fewest = math.prod(min(-(-d // by), n) for d, by, n in zip(apart, step, count, strict=True))
    found = group_pixels(pixels, apart)
    assert_groups_are_right(pixels, apart, found)
    assert len(found) == fewest


@pytest.mark.parametrize(("side", "step", "apart"), [(512, 10, 101), (256, 8, 64)])
def test_published_grids_get_the_fewest_groups(side: int, step: int, apart: int) -> None:
    pixels = lattice((side, side), (step, step), (step // 2, step // 2))
    assert len(group_pixels(pixels, (apart, apart))) == (-(-apart // step)) ** 2


@pytest.mark.parametrize(
    ("count", "shape", "apart"),
    [
        (1000, (1024, 1024), (128, 128)),
        (300, (1024, 1024), (64, 64)),
        (100, (1024, 1024), (200, 200)),
        (600, (64, 256, 256), (16, 64, 64)),
    ],
)
def test_random_pixels_come_close_to_the_bound(count: int, shape: tuple[int, ...], apart: tuple[int, ...]) -> None:
    random = np.random.default_rng(count)
    pixels = [
        tuple(int(at) for at in place) for place in zip(*(random.integers(0, s, count) for s in shape), strict=True)
    ]
    found = group_pixels(pixels, apart)
    assert_groups_are_right(pixels, apart, found)
    assert len(found) <= 1.3 * densest_box(pixels, apart)


def test_coinciding_and_absent_pixels_are_grouped() -> None:
    assert group_pixels([(3, 3), (3, 3)], (1, 1)) == [[0], [1]]
    assert group_pixels([], (4, 4)) == []
    with pytest.raises(ValueError, match="at least 1 px for each of 2 axes"):
        group_pixels([(1, 1)], (4, 4, 4))


@given(
    windows=st.lists(st.lists(st.sampled_from([*OUTCOMES, ""]), min_size=1, max_size=6), min_size=1, max_size=5),
    count=st.integers(0, 12),
)
@example(windows=[["TP"], ["TP", "TP", "FP", "FN", "TN", ""], ["FN", "FN"]], count=8)
@example(windows=[["TN", "TN"], ["TP", "FP", "FN"]], count=12)
def test_half_of_checked_pixels_share_one_window(windows: list[list[str]], count: int) -> None:
    chosen = [
        ChosenPixels(Place(0, (number, 0), (8, 8)), tuple((at, 0) for at in range(len(names))), tuple(names))
        for number, names in enumerate(windows)
    ]
    checked = choose_checked(chosen, count)
    total = sum(map(len, windows))
    assert sum(map(len, checked)) == min(count, total)
    for places, each in zip(checked, chosen, strict=True):
        assert list(places) == sorted(set(places))
        assert all(0 <= at < len(each.pixels) for at in places)
    first = richest_window(chosen)
    assert len(checked[first]) >= min((count + 1) // 2, len(windows[first]))
    if len(checked[first]) >= len(set(windows[first])):
        assert {windows[first][at] for at in checked[first]} == set(windows[first])
