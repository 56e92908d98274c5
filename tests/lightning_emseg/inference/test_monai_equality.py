"""Whole mosaics against MONAI's sliding window, where it puts the tiles at the same places."""

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray

from data_modules.grid import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.band import TileBand
from lightning_emseg.inference.blending import Blend
from tests.support.dense_reference import CPU, inside, stream, tile_at, weights_of


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
    for (top, tiles), below in zip(grid.rows(), [*grid.starts[0][1:], grid.shape[0]], strict=True):
        for origin in tiles:
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
