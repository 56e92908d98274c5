"""Tiles and dropped remainders cover every plane exactly once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.tiling.grid import grid_of

SIDES = st.integers(1, 700)


@given(height=SIDES, width=SIDES)
def test_tiles_and_dropped_remainders_cover_a_plane_once(height: int, width: int) -> None:
    grid = grid_of(height, width)
    covered = np.zeros((height, width), np.uint8)
    for y, x, rows, columns in (*grid.kept.tolist(), *grid.dropped.tolist()):
        covered[y : y + rows, x : x + columns] += 1
    assert (covered == 1).all()
    assert (grid.kept[:, 2:] >= 112).all()
    assert (grid.kept[:, 2:] <= 224).all()
    assert (grid.dropped[:, 2:].min(axis=1, initial=111) < 112).all()
    assert (grid.kept[:, :2] % 224 == 0).all()


@pytest.mark.parametrize(
    ("side", "tiles"), [(111, 0), (112, 1), (224, 1), (335, 1), (336, 2), (448, 2), (559, 2), (560, 3)]
)
def test_a_remainder_is_kept_from_112_px(side: int, tiles: int) -> None:
    assert len(grid_of(224, side).kept) == tiles == len(grid_of(side, 224).kept)
