"""The label augmentor against all pairs of voxels and closed forms."""

import itertools
import math
from typing import Literal

import cc3d
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from data_modules.batch import IGNORE
from lightning_emseg.losses.cleft import boundary_labels, tanh_distance_map

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
VOXELS = [(1.0, 1.0, 1.0), (10.0, 1.0, 1.0), (0.5, 0.3, 0.2)]
shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)


def by_all_pairs(clefts: Ids, ignored: Flags, voxel: tuple[float, ...]) -> NDArray[np.float64]:
    found = np.zeros(clefts.shape)
    places = list(itertools.product(*map(range, clefts.shape)))
    for at in places:
        if clefts[at] == 0 or ignored[at]:
            continue
        distances = [
            math.sqrt(sum((size * (a - b)) ** 2 for size, a, b in zip(voxel, at, other, strict=True)))
            for other in places
            if not ignored[other] and clefts[other] != clefts[at]
        ]
        found[at] = math.tanh(min(distances, default=math.inf))
    return found


@example(np.random.default_rng(0).choice([0, 3, 3, 7], (5, 5, 5)), 0.2, VOXELS[1], 0)
@example(np.random.default_rng(1).choice([0, 3, 3, 3, 7], (3, 6, 6)), 0.0, VOXELS[2], 1)
@given(
    clefts=hnp.arrays(np.int64, shapes, elements=st.sampled_from([0, 0, 3, 3, 3, 7, 10**12])),
    ignored_share=st.sampled_from([0.0, 0.2, 0.7]),
    voxel=st.sampled_from(VOXELS),
    seed=st.integers(0, 1000),
)
def test_equals_all_pairs_of_voxels(clefts: Ids, ignored_share: float, voxel: tuple[float, ...], seed: int) -> None:
    ignored = np.random.default_rng(seed).random(clefts.shape) < ignored_share
    expected = by_all_pairs(clefts, ignored, voxel)
    np.testing.assert_allclose(tanh_distance_map(clefts, ignored, voxel), expected, rtol=1e-6, atol=1e-7)


@example(np.random.default_rng(0).choice(np.array([0, 0, 1], np.uint8), (4, 5, 6)), 6, VOXELS[1])
@example(np.random.default_rng(1).choice(np.array([0, 1, 1], np.uint8), (4, 5, 6)), 26, VOXELS[0])
@given(
    mask=hnp.arrays(np.uint8, shapes, elements=st.sampled_from([0, 0, 0, 1, 1])),
    connectivity=st.sampled_from([6, 18, 26]),
    voxel=st.sampled_from(VOXELS),
)
def test_connected_components_need_no_ids(
    mask: NDArray[np.uint8], connectivity: Literal[6, 18, 26], voxel: tuple[float, ...]
) -> None:
    components = cc3d.connected_components(mask, connectivity=connectivity).astype(np.int64)
    expected = by_all_pairs(components, np.zeros(mask.shape, bool), voxel)
    found = boundary_labels(torch.from_numpy(mask[None]), voxel)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-6, atol=1e-7)


@given(hnp.arrays(np.uint8, (2, 3, 5, 5), elements=st.sampled_from([0, 0, 1, IGNORE])), st.sampled_from(VOXELS))
def test_positive_inside_and_zero_elsewhere(mask: NDArray[np.uint8], voxel: tuple[float, ...]) -> None:
    found = boundary_labels(torch.from_numpy(mask), voxel)
    assert found.dtype == torch.float32
    assert torch.equal(found > 0, torch.from_numpy(mask == 1))
    assert float(found.max()) <= 1


@pytest.mark.parametrize("voxel", VOXELS)
def test_equals_scipy_on_a_patch(voxel: tuple[float, ...]) -> None:
    random = np.random.default_rng(0)
    mask = np.zeros((2, 8, 64, 64), np.uint8)
    for z, y, x in random.integers(0, (8, 50, 50), (12, 3)).tolist():
        mask[0, z : z + 3, y : y + 12, x : x + 7] = 1
    found = boundary_labels(torch.from_numpy(mask), voxel)
    expected = np.tanh(distance_transform_edt(mask[0], sampling=voxel))
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-6, atol=1e-7)
    assert not found[1].any()


def test_a_sheet_is_deepest_in_its_middle() -> None:
    mask = torch.zeros(1, 1, 7, 20, dtype=torch.uint8)
    mask[0, 0, 1:6] = 1
    column = boundary_labels(mask)[0, 0, :, 10]
    torch.testing.assert_close(column, torch.tanh(torch.tensor([0.0, 1, 2, 3, 2, 1, 0])))


def test_anisotropic_voxels_decide_the_nearest_outside() -> None:
    mask = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    mask[0, 1, 1:8, 1:8] = 1
    assert float(boundary_labels(mask)[0, 1, 4, 4]) == pytest.approx(math.tanh(4))
    assert float(boundary_labels(mask, (1, 1, 1))[0, 1, 4, 4]) == pytest.approx(math.tanh(1))


def test_touching_clefts_have_a_boundary_between_them() -> None:
    clefts = np.array([[[1, 1, 1, 2, 2, 2]]])
    nothing = np.zeros(clefts.shape, bool)
    found = tanh_distance_map(clefts, nothing, (1, 1, 1))
    np.testing.assert_allclose(found[0, 0], np.tanh([3, 2, 1, 1, 2, 3]), rtol=1e-6)
    # As one cleft they fill all there is, and nothing is outside.
    assert (tanh_distance_map(np.ones_like(clefts), nothing, (1, 1, 1)) == 1).all()


def test_ignored_voxels_are_neither_cleft_nor_outside() -> None:
    mask = torch.tensor([[[[0, 1, IGNORE, 1, IGNORE, IGNORE, 0]]]], dtype=torch.uint8)
    found = boundary_labels(mask, (1, 1, 1))[0, 0, 0]
    torch.testing.assert_close(found, torch.tanh(torch.tensor([0.0, 1, 0, 3, 0, 0, 0])))


@pytest.mark.parametrize("mask", [torch.zeros(2, 2, 4, 4), torch.full((2, 2, 4, 4), 255)])
def test_without_clefts_all_is_zero(mask: torch.Tensor) -> None:
    assert not boundary_labels(mask.to(torch.uint8)).any()


def test_all_cleft_is_one_everywhere() -> None:
    assert (boundary_labels(torch.ones(1, 2, 4, 4, dtype=torch.uint8)) == 1).all()


def test_the_border_of_a_patch_is_no_boundary() -> None:
    mask = torch.zeros(1, 1, 5, 12, dtype=torch.uint8)
    mask[..., :6] = 1
    torch.testing.assert_close(boundary_labels(mask)[0, 0, 0, :6], torch.tanh(torch.arange(6.0, 0, -1)))


def test_masks_may_be_views() -> None:
    mask = (torch.rand(2, 3, 10, 12, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    turned = mask.transpose(2, 3).flip(2)
    expected = boundary_labels(mask).transpose(2, 3).flip(2)
    torch.testing.assert_close(boundary_labels(turned), expected)


def test_planes_have_clefts_too() -> None:
    mask = torch.zeros(1, 5, 5, dtype=torch.uint8)
    mask[0, 1:4, 1:4] = 1
    assert float(boundary_labels(mask, (1, 1))[0, 2, 2]) == pytest.approx(math.tanh(2))


def test_voxels_need_one_size_an_axis() -> None:
    with pytest.raises(ValueError, match=r"has no voxel of \(10.0, 1.0, 1.0\)"):
        boundary_labels(torch.zeros(1, 5, 5, dtype=torch.uint8))
