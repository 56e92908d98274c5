"""What the tests of the error analysis share: small cases, drawn or made by hand."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lightning_emseg.metrics.mosaic_pair import MosaicPair

Pixels = NDArray[np.uint8]
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def comparisons(draw: st.DrawFn) -> MosaicPair:
    """Truth with unknown pixels, prediction, anisotropic pixels, 2D or 3D."""
    shape = draw(SHAPES)
    truth = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 255])))
    probability = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 99, 100, 255])))
    sizes = draw(st.tuples(*[st.sampled_from([1.0, 2.5, 4.0, 30.0])] * len(shape)))
    return MosaicPair(truth, probability, 100, sizes)


def compare(truth: Pixels, predicted: Pixels, pixel_size_nm: Sequence[float] = (4.0, 4.0)) -> MosaicPair:
    """A certain prediction, given as 0 and 1."""
    return MosaicPair(truth, 255 * predicted, 128, pixel_size_nm)


def broken_membrane() -> tuple[Pixels, Pixels]:
    """Truth and prediction of 60 × 100 px.

    A horizontal membrane, 3 px thick in rows 19–21, is predicted one row thicker (tolerated), and not at all from
    column 40 to 59. Rows 45–49 of columns 70–89 are a false membrane; one pixel at (5, 5) is a speck.
    """
    truth, predicted = np.zeros((60, 100), np.uint8), np.zeros((60, 100), np.uint8)
    truth[19:22] = 1
    predicted[19:23] = 1
    predicted[:, 40:60] = 0
    predicted[45:50, 70:90] = 1
    predicted[5, 5] = 1
    return truth, predicted
