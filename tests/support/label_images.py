"""Small random segmentations for the tests beside this file."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Labels of truth and prediction in 1D to 3D, the truth with at least one pixel in a segment."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    truth: Labels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 4)))
    predicted: Labels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 4)))
    truth.flat[draw(st.integers(0, truth.size - 1))] = draw(st.integers(1, 4))
    return truth, predicted


def rearranged(pair: tuple[Labels, Labels], seed: int) -> tuple[Labels, Labels]:
    """The same overlaps, with other numbers of segments and pixels in another order."""
    truth, predicted = pair
    order = np.random.default_rng(seed).permutation(truth.size)
    return shuffled(truth, seed).ravel()[order], shuffled(predicted, seed + 1).ravel()[order]


def shuffled(labels: Labels, seed: int) -> Labels:
    """The same segments under other numbers; 0 stays 0."""
    numbers = np.random.default_rng(seed).permutation(np.arange(1, 100))
    return np.concatenate([[0], numbers])[labels]
