"""Sizes, gradients and errors that all networks of volumes share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.networks.volumes import AttnUNet3D, CleftNet, ResUNet3D, SegNet3D, UNet3D, VNet
from lightning_emseg.networks.volumes.u_shape import Triple, VoxelSize

SMALL = (8, 8, 16, 24)
NETWORKS: dict[str, Callable[..., Any]] = {
    "CleftNet": CleftNet,
    "CleftNet self": partial(CleftNet, attention="self"),
    "CleftNet none": partial(CleftNet, attention="none"),
    "UNet3D": UNet3D,
    "ResUNet3D": ResUNet3D,
    "AttnUNet3D": AttnUNet3D,
    "VNet": VNet,
    "SegNet3D": SegNet3D,
}
BASELINES = [name for name in NETWORKS if name not in ("CleftNet", "CleftNet self")]


@pytest.mark.parametrize(
    ("patch", "voxel_nm", "stride"),
    [
        ((8, 16, 16), None, (8, 8, 8)),
        ((16, 16, 8), None, (8, 8, 8)),
        ((8, 16, 16), (16.0, 4.0, 4.0), (2, 8, 8)),
        ((5, 16, 16), None, (1, 8, 8)),
        ((12, 8, 16), None, (4, 8, 8)),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_depth_and_every_weight_learns(
    name: str, patch: Triple, voxel_nm: VoxelSize | None, stride: Triple
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](in_channels=2, maps=3, widths=SMALL, patch=patch, voxel_nm=voxel_nm)
    assert network.stride == stride
    logits = network(torch.randn(2, 2, *patch))
    assert logits.shape == (2, 3, *patch)
    (logits**2).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_volumes_of_another_size_are_accepted(name: str) -> None:
    network = NETWORKS[name](widths=(8, 8, 16), patch=(4, 8, 8)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, 8, 16, 12)).shape[2:] == (8, 16, 12)


@pytest.mark.parametrize("name", BASELINES)
def test_translation_by_the_stride_moves_the_output(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](widths=(4, 6, 8), patch=(4, 16, 16))
    x = torch.randn(1, 1, 4, 8, 144)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.momentum = 1.0
    network.train()(x)
    network.eval()
    moved = torch.roll(x, 4, dims=-1)
    with torch.no_grad():
        middle = network(x)[..., 64:76]
        torch.testing.assert_close(network(moved)[..., 68:80], middle, atol=1e-4, rtol=1e-4)
        assert float(middle.std()) > 0.1


@pytest.mark.parametrize("name", NETWORKS)
def test_unfit_sizes_are_refused(name: str) -> None:
    with torch.device("meta"):
        network = NETWORKS[name](patch=(8, 32, 32))
        kind = name.split()[0]
        with pytest.raises(UserError, match=rf"{kind} .* multiples of 8 × 16 × 16 voxels, but got 12 × 32 × 32"):
            network(torch.zeros(1, 1, 12, 32, 32))
        with pytest.raises(UserError, match=r"got 8 × 40 × 32; .* e\.g\. \[8, 32, 32\]"):
            network(torch.zeros(1, 1, 8, 40, 32))
        with pytest.raises(UserError, match=rf"{kind} takes volumes .* a batch of 4 axes: .* data\.planes"):
            network(torch.zeros(1, 1, 32, 32))
    with pytest.raises(UserError, match="a height of 40"):
        NETWORKS[name](patch=(8, 40, 32))
    with pytest.raises(UserError, match="at least one level and the bottom"):
        NETWORKS[name](widths=(8,))


@pytest.mark.parametrize("name", NETWORKS)
def test_single_voxel_batches_are_refused_in_training(name: str) -> None:
    network = NETWORKS[name](widths=(8, 8, 8), patch=(4, 4, 4))
    with pytest.raises(UserError, match=r"one patch of 4 × 4 × 4 voxels to a single voxel, .* larger data\.batch_size"):
        network(torch.zeros(1, 1, 4, 4, 4))
    assert network(torch.zeros(2, 1, 4, 4, 4)).shape[0] == 2
    assert network(torch.zeros(1, 1, 4, 4, 8)).shape[-1] == 8
    for norm in network.modules():
        norm.train(not isinstance(norm, nn.BatchNorm3d))
    assert network(torch.zeros(1, 1, 4, 4, 4)).shape[-1] == 4
