"""Sparse tables against counts kept in a dictionary."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightning_emseg.metrics.segmentation.contingency import Contingency, contingency

Labels = NDArray[np.integer[Any]]
TYPES = {kind: np.iinfo(kind) for kind in (np.uint8, np.int16, np.uint32, np.int64, np.uint64)}
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7)


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    shape = draw(shapes)

    def labels() -> Labels:
        kind, limits = draw(st.sampled_from(list(TYPES.items())))
        extremes = [0, 1, 2, 3, limits.max, limits.min]
        found: Labels = draw(hnp.arrays(kind, shape, elements=st.sampled_from(extremes)))
        return found

    return labels(), labels()


def as_counter(table: Contingency) -> Counter[tuple[int, int]]:
    pairs = zip(table.truth_id.tolist(), table.predicted_id.tolist(), strict=True)
    found = Counter(dict(zip(pairs, table.count.tolist(), strict=True)))
    assert len(found) == len(table.count), "a pair comes twice"
    return found


@given(label_pairs(), st.booleans())
def test_every_pixel_is_counted_once(pair: tuple[Labels, Labels], truth_zero: bool) -> None:
    truth, predicted = pair
    expected = Counter(
        (t, p) for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True) if truth_zero or t != 0
    )
    found = contingency(truth, predicted, keep_truth_zero=truth_zero)
    assert as_counter(found) == expected
    assert found.pixels == sum(expected.values())
    assert found.truth_id.dtype == truth.dtype
    assert found.predicted_id.dtype == predicted.dtype


@pytest.mark.parametrize(("shape", "threads"), [((5, 1 << 21), 3), ((3, 2, 1 << 21), 1)])
def test_large_images_are_counted_in_bands(shape: tuple[int, ...], threads: int) -> None:
    # Two rows of 2D and one of 3D are a band; runs are long, as they are in segmentations.
    random = np.random.default_rng(0)
    truth, predicted = (
        np.repeat(random.integers(0, 6, (*shape[:-1], shape[-1] // 1024), dtype=np.uint8), 1024, axis=-1)
        for _ in range(2)
    )
    truth[0] = 0
    predicted[-1, ..., ::3] = 7
    used = truth != 0
    pairs, counts = np.unique(10 * truth[used].astype(np.uint8) + predicted[used], return_counts=True)
    found = contingency(truth, predicted, keep_truth_zero=False, threads=threads)
    expected = {divmod(int(pair), 10): int(count) for pair, count in zip(pairs, counts, strict=True)}
    assert as_counter(found) == expected


@given(label_pairs())
def test_sizes_are_those_of_the_segments(pair: tuple[Labels, Labels]) -> None:
    truth, predicted = pair
    table = contingency(truth, predicted)
    for label, size in zip(table.truth_id, table.truth_size, strict=True):
        assert size == np.sum(truth == label)
    for label, size in zip(table.predicted_id, table.predicted_size, strict=True):
        assert size == np.sum(predicted == label)


def test_views_that_are_not_contiguous_are_counted_too() -> None:
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 4, (2, 6, 8, 10))
    found = contingency(truth[::2, :, ::3].T, predicted[::2, :, ::3].T)
    assert as_counter(found) == as_counter(contingency(truth[::2, :, ::3].copy(), predicted[::2, :, ::3].copy()))


def test_without_background_drops_what_is_no_true_segment() -> None:
    table = contingency(np.array([0, 0, 1, 1]), np.array([0, 5, 0, 5])).without_background()
    assert as_counter(table) == {(1, 0): 1, (1, 5): 1}


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_images_without_pixels_give_an_empty_table(shape: tuple[int, ...]) -> None:
    table = contingency(np.zeros(shape, np.uint32), np.zeros(shape, np.uint32))
    assert (table.pixels, len(table.truth_id), len(table.truth_size)) == (0, 0, 0)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        contingency(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
    floats: Any = np.zeros(3)
    with pytest.raises(ValueError, match="must be integers"):
        contingency(floats, np.zeros(3, np.uint8))
