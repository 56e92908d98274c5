"""Weights of overlapping tiles."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.grid import Grid
from lightning_emseg.inference.blending import Blend, Windows, normalised_windows, window

BLENDS: tuple[Blend, ...] = ("constant", "cosine", "gaussian")


@example([60, 47], 16, 0.5, "gaussian")
@example([33, 60, 25], 7, 0.9, "cosine")
@given(
    shape=st.lists(st.integers(1, 60), min_size=2, max_size=3),
    tile=st.integers(1, 24),
    overlap=st.floats(0, 0.95),
    blend=st.sampled_from(BLENDS),
)
def test_weights_of_all_tiles_add_up_to_one(shape: list[int], tile: int, overlap: float, blend: Blend) -> None:
    grid = Grid(tuple(shape), (tile,) * len(shape), overlap)
    for weights, length in zip(normalised_windows(grid, blend), shape, strict=True):
        total = np.zeros(max(length, tile))
        for start, values in weights.items():
            assert (values > 0).all()
            total[start : start + tile] += values
        np.testing.assert_allclose(total[:length], 1, atol=1e-12)


@pytest.mark.parametrize("length", [8, 33, 64])
def test_gaussian_sigma_is_an_eighth_tile(length: int) -> None:
    # MONAI: a Gaussian importance map centred in the tile with sigma = 0.125 * tile.
    centre, sigma = (length - 1) / 2, 0.125 * length
    expected = np.exp(-((np.arange(length) - centre) ** 2) / (2 * sigma**2))
    np.testing.assert_allclose(window(length, "gaussian"), expected, rtol=1e-12)


def test_constant_is_the_plain_mean() -> None:
    weights = normalised_windows(Grid((12, 8), (8, 8), 0.5), "constant")[0]
    np.testing.assert_array_equal(weights[0], [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(weights[4], [0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1])


@pytest.mark.parametrize("blend", BLENDS)
def test_windows_are_symmetric_and_highest_in_the_middle(blend: Blend) -> None:
    values = window(31, blend)
    np.testing.assert_allclose(values, values[::-1], rtol=1e-12)
    assert values.argmax() == (0 if blend == "constant" else 15)


@example([60, 47], 16, 0.5, "gaussian", 255.0)
@example([3, 20], 8, 0.5, "cosine", 1.0)
@given(
    shape=st.lists(st.integers(1, 60), min_size=2, max_size=3),
    tile=st.integers(1, 16),
    overlap=st.floats(0, 0.9),
    blend=st.sampled_from(BLENDS),
    scale=st.sampled_from([1.0, 255.0]),
)
def test_tile_window_is_the_product_over_axes(
    shape: list[int], tile: int, overlap: float, blend: Blend, scale: float
) -> None:
    grid = Grid(tuple(shape), (tile,) * len(shape), overlap)
    windows, axes = Windows(grid, blend, torch.device("cpu"), scale), normalised_windows(grid, blend)
    for origin in itertools.islice(grid, 100):
        expected = np.full((), scale)
        for axis, start, length in zip(axes, origin, shape, strict=True):
            expected = np.multiply.outer(expected, axis[start][:length])
        assert windows[origin].dtype == torch.float32
        np.testing.assert_allclose(windows[origin].numpy(), expected, rtol=1e-6)


def test_inner_tiles_share_one_of_few_windows() -> None:
    grid = Grid((200, 200), (16, 16), 0.5)
    windows = Windows(grid, "gaussian", torch.device("cpu"))
    inner = [windows[y, x] for y, x in grid if 16 <= y <= 150 and 16 <= x <= 150]
    assert len({window.data_ptr() for window in inner}) == 1
    del inner
    made = [weakref.ref(windows[origin]) for origin in grid]
    kept = [window() for window in made if window() is not None]
    assert len({id(window) for window in kept}) == 8
    assert len(kept) < len(made)
