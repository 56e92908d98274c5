"""Halved axes and layers of networks of volumes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from lightning_emseg.networks.volumes.u_shape import Residual, Triple, VoxelSize, level_factors, level_sizes, stride_of

CREMI: VoxelSize = (40.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("patch", "voxel_nm", "depths"),
    [
        ((8, 256, 256), None, [8, 4, 2, 1, 1]),
        ((16, 256, 256), None, [16, 8, 4, 2, 1]),
        ((12, 32, 32), None, [12, 6, 3, 3, 3]),
        ((5, 32, 32), None, [5, 5, 5, 5, 5]),
        # Voxels in plane grow 4, 8, 16, 32 nm: at 32, 40 is less than twice as much.
        ((8, 256, 256), CREMI, [8, 8, 8, 8, 4]),
        ((8, 32, 32), (8.0, 4.0, 4.0), [8, 8, 4, 2, 1]),
        ((8, 32, 32), (7.9, 4.0, 4.0), [8, 4, 2, 1, 1]),
    ],
)
def test_depths_by_hand(patch: Triple, voxel_nm: VoxelSize | None, depths: list[int]) -> None:
    factors = level_factors(patch, 4, voxel_nm)
    sizes = level_sizes(patch, factors)
    assert [size[0] for size in sizes] == depths
    assert [size[1:] for size in sizes] == [(patch[1] // 2**level, patch[2] // 2**level) for level in range(5)]
    assert stride_of(factors) == (depths[0] // depths[-1], 16, 16)


def test_long_voxels_in_plane_wait_as_well() -> None:
    assert level_factors((16, 16, 16), 2, (4.0, 4.0, 9.0)) == ((2, 2, 1), (2, 2, 2))


@given(
    depth=st.integers(1, 40),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    levels=st.integers(1, 4),
    voxel_nm=st.none() | st.tuples(st.floats(1, 90), st.just(4.0), st.just(4.0)),
)
def test_any_patch_ends_in_whole_voxels(
    depth: int, height: int, width: int, levels: int, voxel_nm: VoxelSize | None
) -> None:
    patch = (depth, height * 2**levels, width * 2**levels)
    factors = level_factors(patch, levels, voxel_nm)
    sizes = level_sizes(patch, factors)
    for size, below, step in zip(sizes, sizes[1:], factors, strict=False):
        assert set(step) <= {1, 2}
        assert tuple(side * factor for side, factor in zip(below, step, strict=True)) == size
    assert tuple(s * last for s, last in zip(stride_of(factors), sizes[-1], strict=True)) == patch


@pytest.mark.parametrize(
    ("patch", "voxel_nm", "message"),
    [
        ((8, 24, 32), None, "a height of 24 cannot be halved often enough for 4 levels; choose multiples of 16"),
        ((8, 32, 100), None, "a width of 100"),
        ((0, 32, 32), None, "must be positive"),
        ((8, 32, 32), (40.0, 0.0, 4.0), "must be positive"),
    ],
)
def test_unfit_patches_are_refused(patch: Triple, voxel_nm: VoxelSize | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        level_factors(patch, 4, voxel_nm)


def test_residual_is_added_before_the_last_activation() -> None:
    torch.manual_seed(0)
    block = Residual(4).eval()
    norm: Any = block.second[1]
    x = torch.randn(2, 4, 3, 3, 3)
    with torch.no_grad():
        norm.weight.zero_()
        torch.testing.assert_close(block(x), torch.where(x > 0, x, torch.expm1(x)))
