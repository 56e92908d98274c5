"""Runs of lines against drawings, and against labels of another library."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import label

from lightning_emseg.metrics.boundary.runs import runs

Mask = NDArray[np.bool_]


def drawn(*rows: str) -> Mask:
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("lines", "lengths"),
    [
        (drawn("....", "...."), []),
        (drawn("#...", "...."), [2.0]),
        (drawn("####", "...."), [8.0]),
        (drawn("#...", ".#..", "..#."), [2 + 4 * np.sqrt(2)]),
        (drawn("#...", "#...", "##.."), [8.0]),
        (drawn("..#.", ".#..", "#..."), [2 + 4 * np.sqrt(2)]),
        (drawn("#..#", "#..#", "...#"), [4.0, 6.0]),
        # The last pixel of a row and the first of the next one are no neighbours.
        (drawn("...#", "#...", "...."), [2.0, 2.0]),
        (drawn("...#", "....", "#..."), [2.0, 2.0]),
        # A T: three arms at a middle pixel.
        (drawn("###", ".#.", ".#."), [10.0]),
    ],
)
def test_lengths_of_drawn_lines(lines: Mask, lengths: list[float]) -> None:
    assert runs(lines, (2.0, 2.0)).lengths_nm.tolist() == pytest.approx(lengths)


def test_lengths_along_unequal_axes() -> None:
    sizes = (3.0, 4.0)
    assert runs(drawn("###"), sizes).lengths_nm.tolist() == [8 + 3.5]
    assert runs(drawn("#", "#", "#"), sizes).lengths_nm.tolist() == [6 + 3.5]
    assert runs(drawn("#..", ".#.", "..#"), sizes).lengths_nm.tolist() == [10 + 3.5]


@example(np.random.default_rng(0).random((40, 50)) < 0.2)
@example(np.random.default_rng(1).random((40, 50)) < 0.4)
@example(np.random.default_rng(2).random((1, 50)) < 0.6)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=15)))
def test_runs_are_the_components_over_eight_neighbours(lines: Mask) -> None:
    found = runs(lines, (1.0, 1.0))
    labels, number = label(lines, np.ones((3, 3)))
    assert found.places.tolist() == np.flatnonzero(lines).tolist()
    assert found.lengths_nm.size == number
    # Each of ours goes with one of theirs, and the other way round.
    pairs = set(zip(found.numbers.tolist(), labels[lines].tolist(), strict=True))
    assert len(pairs) == number
    assert {ours for ours, _ in pairs} == set(range(number))


@example(np.random.default_rng(0).random((40, 50)) < 0.2)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)))
def test_runs_are_as_long_as_their_pixels(lines: Mask) -> None:
    found = runs(lines, (1.0, 1.0))
    pixels = np.bincount(found.numbers, minlength=found.lengths_nm.size)
    assert (found.lengths_nm >= pixels - 1e-9).all()
