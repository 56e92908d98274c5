"""Thinned borders against a flooding pixel by pixel, against scikit-image's watershed, and by hand."""

import itertools
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from lightning_emseg.metrics.mosaic_pair import Segments, components
from lightning_emseg.metrics.segmentation.cells import thin_borders
from lightning_emseg.metrics.segmentation.contingency import contingency
from lightning_emseg.metrics.segmentation.scores import v_info, v_rand

Mask = NDArray[np.bool_]
Pixel = tuple[int, ...]
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9)
masks = shapes.flatmap(lambda shape: hnp.arrays(np.bool_, shape, elements=st.booleans()))


def flooded(cells: Segments, parity_first: bool) -> Segments:
    """The classic watershed of a binary map with dams, with a queue of pixels.

    Pixels of one step come in the order in which they were found (as in Fiji), or those of an even sum of
    coordinates first.
    """
    grown = {pixel: int(cells[pixel]) for pixel in np.ndindex(cells.shape) if cells[pixel]}
    if not grown:
        return np.ones_like(cells)

    def neighbours(pixel: Pixel) -> list[Pixel]:
        found = [
            tuple(at + sign * (axis == other) for other, at in enumerate(pixel))
            for sign in (-1, 1)
            for axis in range(cells.ndim)
        ]
        return [near for near in found if all(0 <= at < side for at, side in zip(near, cells.shape, strict=True))]

    queue = deque(
        pixel for pixel in np.ndindex(cells.shape) if pixel not in grown and any(n in grown for n in neighbours(pixel))
    )
    queued = set(queue)
    while queue:
        step = list(queue)
        queue.clear()
        for pixel in sorted(step, key=lambda pixel: sum(pixel) % 2) if parity_first else step:
            labels = {grown[near] for near in neighbours(pixel) if grown.get(near)}
            grown[pixel] = labels.pop() if len(labels) == 1 else 0
        for near in itertools.chain.from_iterable(map(neighbours, step)):
            if near not in grown and near not in queued:
                queued.add(near)
                queue.append(near)
    return np.array([grown[pixel] for pixel in np.ndindex(cells.shape)], np.uint32).reshape(cells.shape)


def blobs(shape: tuple[int, ...], seed: int, level: float = 0.4) -> Mask:
    """Something like a map of membranes: thick curved borders, with gaps and islands."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    mask: Mask = np.abs(field) < level * np.std(field)
    return mask


@example(blobs((20, 31), 0, 0.6))
@example(blobs((6, 12, 15), 1, 0.8))
@given(masks)
def test_borders_are_flooded_as_by_a_queue(mask: Mask) -> None:
    cells = components(~mask)
    np.testing.assert_array_equal(thin_borders(cells), flooded(cells, parity_first=True))


def enclosed(shape: tuple[int, ...], seed: int) -> Segments:
    """Cells within a frame that is one of them, so that nothing outside of it changes them."""
    cells = components(~blobs(shape, seed, 0.7))
    return np.pad(np.where(cells, cells + 1, 0), 1, constant_values=1).astype(np.uint32)


@pytest.mark.parametrize(
    ("shape", "copies", "threads"),
    [((118, 158), (5, 8), 1), ((118, 158), (5, 8), 5), ((6, 28, 38), (4, 5, 7), 2)],
)
def test_many_copies_thin_as_one(shape: tuple[int, ...], copies: tuple[int, ...], threads: int) -> None:
    # Copies have even sides, so that the order in which pixels are flooded is that of the original.
    original = enclosed(shape, 3)
    alone = flooded(original, parity_first=True)
    assert np.sum((alone == 0) & (original == 0)) > 100
    cells = np.tile(original, copies)
    # Fronts beyond 65,536 pixels are labelled in several pieces.
    beside = ndimage.binary_dilation(cells > 0) & (cells == 0)
    assert beside.sum() > 65_536
    np.testing.assert_array_equal(thin_borders(cells, threads), np.tile(alone, copies))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.uint64])
def test_instances_of_any_integer_type_keep_their_numbers(kind: type[np.integer[Any]]) -> None:
    cells = components(~blobs((60, 70), 4))
    numbers = np.arange(1 + int(cells.max())).astype(kind)
    numbers[1:3] = np.iinfo(kind).max, np.iinfo(kind).max - 1
    assert len(set(numbers.tolist())) == len(numbers)
    grown = thin_borders(numbers[cells])
    assert grown.dtype == kind
    np.testing.assert_array_equal(grown, numbers[thin_borders(cells)])


@example(blobs((40, 51), 2, 0.6))
@example(blobs((6, 22, 15), 3, 0.8))
@given(masks)
def test_every_cell_keeps_its_pixels_and_stays_connected(mask: Mask) -> None:
    cells = components(~mask)
    grown = thin_borders(cells)
    if not cells.any():
        assert (grown == 1).all()
        return
    np.testing.assert_array_equal(grown[~mask], cells[~mask])
    assert set(np.unique(grown)) - {0} == set(np.unique(cells)) - {0}
    assert components(grown > 0).max() == cells.max(), "dams separate the cells"


def test_borders_of_odd_width_become_their_middle() -> None:
    cells = np.zeros((6, 7), np.uint32)
    cells[:, :2], cells[:, 5:] = 4, 9
    expected = np.repeat(np.array([[4, 4, 4, 0, 9, 9, 9]], np.uint32), 6, axis=0)
    np.testing.assert_array_equal(thin_borders(cells), expected)


def test_borders_of_even_width_become_fair_lines() -> None:
    cells = np.zeros((8, 6), np.uint32)
    cells[:, :2], cells[:, 4:] = 4, 9
    grown = thin_borders(cells)
    assert ((grown == 0).sum(axis=1) == 1).all()
    assert (grown == 4).sum() == (grown == 9).sum()


def test_borders_that_separate_nothing_vanish() -> None:
    cells = np.ones((9, 9), np.uint32)
    cells[2:5, 2:5] = 0
    cells[4, 4:] = 0
    np.testing.assert_array_equal(thin_borders(cells), np.ones((9, 9), np.uint32))


def test_everything_is_one_cell_where_none_is() -> None:
    np.testing.assert_array_equal(thin_borders(np.zeros((3, 4), np.uint32)), np.ones((3, 4), np.uint32))


def test_cells_are_left_as_they_are() -> None:
    cells = components(~blobs((30, 40), 0))
    before = cells.copy()
    thin_borders(cells)
    np.testing.assert_array_equal(cells, before)


@pytest.mark.parametrize("shape", [(100, 120), (10, 36, 40)])
@pytest.mark.parametrize("seed", range(2))
def test_scores_agree_with_queue_and_scikit_image(seed: int, shape: tuple[int, ...]) -> None:
    truth, cells = components(~blobs(shape, seed)), components(~blobs(shape, seed, 0.5))
    truth[np.random.default_rng(seed).random(shape) < 0.02] = 0
    ours = contingency(truth, thin_borders(cells))
    library = watershed(np.zeros(shape, np.uint8), cells, connectivity=1, watershed_line=True)
    for other, tolerance in ((flooded(cells, parity_first=False), 0.01), (library.astype(np.uint32), 0.02)):
        theirs = contingency(truth, other)
        assert v_rand(ours).f == pytest.approx(v_rand(theirs).f, abs=tolerance)
        assert v_info(ours).f == pytest.approx(v_info(theirs).f, abs=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_lines_are_about_one_pixel_wide(seed: int) -> None:
    grown = thin_borders(components(~blobs((200, 200), seed)))
    border = grown == 0
    assert border.any()
    thick = ndimage.binary_erosion(border, np.ones((2, 2)))
    assert thick.sum() < 0.02 * border.sum()


def test_thinning_keeps_perfect_scores() -> None:
    cells = components(~blobs((100, 100), 1))
    assert v_rand(contingency(cells, thin_borders(cells))).f == 1
    assert v_info(contingency(cells, thin_borders(cells))).f == 1
