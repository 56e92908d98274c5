"""Thinning against scikit-image, every small mask, and the topology of random ones."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from skimage.morphology import skeletonize, thin

from lightning_emseg.metrics.boundary.skeleton import runs, skeleton

Mask = NDArray[np.bool_]

EIGHT = np.ones((3, 3))
small = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def every_mask_of_4_by_4() -> Mask:
    """All 65,536 of them, side by side with a pixel of background around each."""
    bits = np.arange(2**16)[:, None] >> np.arange(16) & 1
    cells = np.zeros((2**16, 6, 6), bool)
    cells[:, 1:5, 1:5] = bits.reshape(-1, 4, 4)
    return cells.reshape(256, 256, 6, 6).transpose(0, 2, 1, 3).reshape(1536, 1536)


def membranes(shape: tuple[int, int], seed: int, width: float = 0.25) -> Mask:
    """Smooth closed lines of varying thickness, of about a fifth of the pixels."""
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.normal(size=shape), 9)
    membrane: Mask = np.abs(field / field.std()) < width
    return membrane


def blobs(shape: tuple[int, int], seed: int, share: float, sigma: float) -> Mask:
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.random(shape), sigma)
    found: Mask = field < np.quantile(field, share)
    return found


def assert_same_components(inner: Mask, outer: Mask, structure: NDArray[np.float64] | None) -> None:
    """Every component of the outer mask holds exactly one of the inner mask."""
    of_outer, number = label(outer, structure)
    of_inner, inner_number = label(inner, structure)
    pairs = np.unique(of_inner[inner].astype(np.int64) * (number + 1) + of_outer[inner])
    assert pairs.size == inner_number == number
    assert sorted((pairs % (number + 1)).tolist()) == list(range(1, number + 1))


def assert_same_topology(thinned: Mask, mask: Mask) -> None:
    assert not (thinned & ~mask).any()
    assert_same_components(thinned, mask, EIGHT)
    # Beyond its border an image is background.
    assert_same_components(np.pad(~mask, 1, constant_values=True), np.pad(~thinned, 1, constant_values=True), None)


def deletable(mask: Mask) -> Mask:
    """Pixels without which the topology is the same: one change to foreground on a walk round them (Hilditch)."""
    framed = np.pad(mask, 1)
    height, width = mask.shape
    ring = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    around = [framed[y : y + height, x : x + width] for y, x in ring]
    changes = np.zeros(mask.shape, int)
    for face in (0, 2, 4, 6):
        changes += ~around[face] & (around[face + 1] | around[(face + 2) % 8])
    found: Mask = mask & (changes == 1)
    return found


def in_blocks(mask: Mask) -> Mask:
    """Pixels of full blocks of 2 × 2."""
    blocks = mask[1:, 1:] & mask[1:, :-1] & mask[:-1, 1:] & mask[:-1, :-1]
    found = np.zeros_like(mask)
    for rows in (slice(1, None), slice(None, -1)):
        for columns in (slice(1, None), slice(None, -1)):
            found[rows, columns] |= blocks
    return found


def assert_thin(thinned: Mask) -> None:
    """Blocks of 2 × 2 pixels are left only where lines cross so that no pixel of the block can go."""
    assert not (in_blocks(thinned) & deletable(thinned)).any()


def test_every_4_by_4_mask_thins_keeping_topology() -> None:
    masks = every_mask_of_4_by_4()
    thinned = skeleton(masks)
    assert_same_topology(thinned, masks)
    assert_thin(thinned)


@example(np.random.default_rng(0).random((40, 150)) < 0.5)
@example(np.random.default_rng(1).random((40, 150)) < 0.8)
@given(small)
def test_random_masks_keep_their_topology_and_become_thin(mask: Mask) -> None:
    thinned = skeleton(mask)
    assert_same_topology(thinned, mask)
    assert_thin(thinned)


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 200)),
    st.integers(0, 2**16),
    st.sampled_from([0.2, 0.5, 0.8]),
    st.sampled_from([0.0, 0.8, 3.0]),
)
def test_blobs_keep_their_topology_and_become_thin(
    shape: tuple[int, int], seed: int, share: float, sigma: float
) -> None:
    mask = blobs(shape, seed, share, sigma)
    thinned = skeleton(mask)
    assert_same_topology(thinned, mask)
    assert_thin(thinned)


@given(
    st.integers(1, 40),
    st.sampled_from([1, 2, 62, 63, 64, 65, 66, 127, 128, 129, 200]),
    st.integers(0, 2**16),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
)
@example(40, 64, 0, 0.6)
@example(40, 63, 1, 0.9)
@example(40, 129, 2, 0.9)
def test_differs_from_scikit_image_only_in_its_blocks(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    ours, theirs = skeleton(mask), thin(mask)
    assert not (ours & ~theirs).any()
    assert not (theirs & ~ours & ~in_blocks(theirs)).any()


@pytest.mark.parametrize("seed", range(2))
def test_equals_scikit_image_on_membranes(seed: int) -> None:
    mask = membranes((300, 477), seed)
    ours, theirs = skeleton(mask), thin(mask)
    differing = ours != theirs
    assert differing.sum() <= 2
    assert not (differing & ~in_blocks(theirs)).any()


def test_large_masks_thin_as_their_parts_do() -> None:
    # Even sides: blocks are opened by the parity of rows and columns. No part touches another.
    part = np.pad(membranes((126, 158), 4), 1)
    whole = np.tile(part, (9, 8))
    # Beyond 8,192 words of 64 pixels, the work is divided.
    assert np.count_nonzero(np.add.reduceat(whole, range(0, whole.shape[1], 64), axis=1)) > 8192
    np.testing.assert_array_equal(skeleton(whole), np.tile(skeleton(part), (9, 8)))


def test_lies_where_scikit_images_skeleton_does() -> None:
    mask = membranes((400, 500), 0)
    ours, theirs = skeleton(mask), skeletonize(mask)
    assert np.mean(distance_transform_edt(~theirs)[ours] < 1.5) > 0.95
    assert np.mean(distance_transform_edt(~ours)[theirs] < 1.5) > 0.95


def test_line_of_odd_width_becomes_its_middle() -> None:
    mask = np.zeros((31, 150), bool)
    mask[10:17, :] = True
    rows, columns = np.nonzero(skeleton(mask))
    assert set(rows[(columns > 5) & (columns < 145)].tolist()) == {13}
    assert columns.size >= 140


def test_thinning_twice_changes_nothing() -> None:
    once = skeleton(membranes((200, 300), 1))
    np.testing.assert_array_equal(skeleton(once), once)


def test_full_and_empty_masks() -> None:
    assert skeleton(np.ones((131, 131), bool)).sum() == 1
    assert skeleton(np.zeros((70, 90), bool)).sum() == 0
    assert skeleton(np.zeros((0, 5), bool)).shape == (0, 5)
    assert skeleton(np.ones((1, 1), bool)).tolist() == [[True]]


def test_mask_is_left_as_it_is() -> None:
    mask = np.ones((20, 30), bool)
    skeleton(mask)
    assert mask.all()


def test_strided_views_are_thinned_too() -> None:
    mask = membranes((200, 300), 2)
    for view in (mask.T, mask[::2, ::3], mask[::-1, ::-1]):
        np.testing.assert_array_equal(skeleton(view), skeleton(view.copy()))


def test_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="only planes can be thinned"):
        skeleton(np.ones((3, 3, 3), bool))


Lines = NDArray[np.bool_]


def drawn(*rows: str) -> Lines:
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
def test_lengths_of_drawn_lines(lines: Lines, lengths: list[float]) -> None:
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
def test_runs_are_the_components_over_eight_neighbours(lines: Lines) -> None:
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
def test_runs_are_as_long_as_their_pixels(lines: Lines) -> None:
    found = runs(lines, (1.0, 1.0))
    pixels = np.bincount(found.numbers, minlength=found.lengths_nm.size)
    assert (found.lengths_nm >= pixels - 1e-9).all()
