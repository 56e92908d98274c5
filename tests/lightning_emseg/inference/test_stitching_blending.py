"""Weights of overlapping tiles, and the rows that they are blended into."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray

from data_modules.geometry import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.stitching import Blend, TileBand, Windows, normalised_windows, window
from tests.support.dense_reference import BLENDS, CPU, SINGLE, dense, inside, stream, tile_at, weights_of

ALL_BLENDS: tuple[Blend, ...] = ("constant", "cosine", "gaussian")


@example([60, 47], 16, 0.5, "gaussian")
@example([33, 60, 25], 7, 0.9, "cosine")
@given(
    shape=st.lists(st.integers(1, 60), min_size=2, max_size=3),
    tile=st.integers(1, 24),
    overlap=st.floats(0, 0.95),
    blend=st.sampled_from(ALL_BLENDS),
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


@pytest.mark.parametrize("blend", ALL_BLENDS)
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
    blend=st.sampled_from(ALL_BLENDS),
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


def _monai(grid: Grid, blend: Blend) -> NDArray[np.float32]:
    def predictor(windows: torch.Tensor, places: list[list[slice]]) -> torch.Tensor:
        origins: list[Shape] = [tuple(axis.start for axis in place[2:]) for place in places]
        return torch.from_numpy(np.stack([tile_at(origin, grid.tile) for origin in origins])[:, None])

    # MONAI raises small Gaussian weights to 1e-3; given ours it leaves them alone.
    weights = None if blend == "constant" else torch.from_numpy(weights_of(grid.tile, blend)).float()
    found = sliding_window_inference(
        torch.zeros(1, 1, *grid.shape), grid.tile, 3, predictor, grid.overlap, roi_weight_map=weights, with_coord=True
    )
    assert isinstance(found, torch.Tensor)
    values: NDArray[np.float32] = found[0, 0].numpy()
    return values


def _ours(grid: Grid, blend: Blend) -> NDArray[np.float32]:
    band, made = TileBand(grid, blend, CPU), []
    tops = [*grid.starts[0], grid.shape[0]]
    for top, below in itertools.pairwise(tops):
        for origin in (origin for origin in grid if origin[0] == top):
            band.add(origin, inside(origin, grid))
        made += [rows.clone() for rows in band.take(top, below)]
    values: NDArray[np.float32] = torch.cat(made).numpy()
    return values


@pytest.mark.parametrize("blend", ["constant", "gaussian", "cosine"])
@pytest.mark.parametrize(
    ("shape", "tile", "overlap"),
    [
        ((101, 133), (32, 32), 0.5),
        ((64, 64), (32, 32), 0.0),
        ((75, 32), (32, 16), 0.75),
        ((99, 70), (64, 32), 0.25),
        ((13, 37, 50), (8, 16, 16), 0.5),
    ],
)
def test_monai_blends_to_the_same_map(shape: Shape, tile: Shape, overlap: float, blend: Blend) -> None:
    grid = Grid(shape, tile, overlap)
    expected = _monai(grid, blend)
    assert np.abs(_ours(grid, blend) - expected).max() <= 1e-6
    quantised = torch.cat(
        [rows.probability for rows in stream(Sweep((grid,), (RowSpan(0, 0, shape[0]),), 2), blend)]
    ).numpy()
    assert np.abs(quantised - 255 * expected.astype(np.float64)).max() <= 0.5 + 1e-3


@example([75, 61], 13, 0.9, "gaussian")
@example([20, 24, 19], 8, 0.5, "cosine")
@given(
    shape=st.lists(st.integers(1, 60), min_size=2, max_size=3),
    tile=st.sampled_from([8, 13]),
    overlap=st.floats(0, 0.9),
    blend=st.sampled_from(BLENDS),
)
def test_probability_before_quantisation_is_within_the_stated_bound(
    shape: list[int], tile: int, overlap: float, blend: Blend
) -> None:
    shape[2:] = [min(side, 20) for side in shape[2:]]
    grid = Grid(tuple(shape), (tile,) * len(shape), min(overlap, 0.6) if len(shape) == 3 else overlap)
    band = TileBand(grid, blend, CPU)
    expected, overlapping = dense(grid, blend)
    bound = (overlapping + 2) * SINGLE
    assert bound < 1e-3
    tops = [*grid.starts[0], grid.shape[0]]
    for top, below in itertools.pairwise(tops):
        for origin in (origin for origin in grid if origin[0] == top):
            band.add(origin, inside(origin, grid))
        rows = torch.cat([rows.clone() for rows in band.take(top, below)]).double().numpy()
        assert np.abs(rows - expected[top:below]).max() <= bound


@pytest.mark.parametrize("start", [1, 300, 511, 512, 700])
def test_values_do_not_depend_on_band_starts(start: int) -> None:
    # Before rounding to 8 bit, which would hide almost every difference; wide enough for every vectorised path.
    grid = Grid((900, 700), (256, 500), 0.5)

    def rows_from(first: int) -> torch.Tensor:
        band, made = TileBand(grid, "gaussian", CPU), []
        tops = [top for top in grid.starts[0] if top + 256 > first]
        for top, below in zip(tops, [*tops[1:], 900], strict=True):
            for across in grid.starts[1]:
                band.add((top, across), inside((top, across), grid))
            made += [rows.clone() for rows in band.take(top, below)]
        return torch.cat(made)[-(900 - first) :]

    assert torch.equal(rows_from(start), rows_from(0)[start:])
