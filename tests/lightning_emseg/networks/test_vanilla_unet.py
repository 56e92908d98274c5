"""The vanilla U-Net has the layers of the paper and sees what it should."""

import pytest
import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.networks.vanilla_unet import VanillaUNet


def parameters_of_the_paper(in_channels: int, classes: int) -> int:
    """Weights and biases counted by hand from figure 1 of Ronneberger et al. 2015."""

    def convolution(kernel: int, before: int, after: int) -> int:
        return kernel * kernel * before * after + after

    total = 0
    before = in_channels
    for width in (64, 128, 256, 512, 1024):
        total += convolution(3, before, width) + convolution(3, width, width)
        before = width
    for width in (512, 256, 128, 64):
        total += convolution(2, 2 * width, width)
        total += convolution(3, 2 * width, width) + convolution(3, width, width)
    return total + convolution(1, 64, classes)


def test_layers_of_the_paper() -> None:
    with torch.device("meta"):
        network = VanillaUNet(in_channels=1, classes=2, batch_norm=False)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    assert sum(p.numel() for p in network.parameters()) == parameters_of_the_paper(1, 2)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_shape_and_gradients(batch_norm: bool) -> None:
    network = VanillaUNet(in_channels=2, classes=3, base_channels=4, depth=3, batch_norm=batch_norm)
    assert network.stride == 8
    logits = network(torch.randn(2, 2, 16, 24))
    assert logits.shape == (2, 3, 16, 24)
    (logits**2).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_translation_by_the_stride_moves_the_output() -> None:
    torch.manual_seed(0)
    network = VanillaUNet(base_channels=4, depth=2).eval()
    x = torch.zeros(1, 1, 64, 64)
    x[..., 28:36, 28:36] = torch.randn(8, 8)
    moved = torch.roll(x, (network.stride, -network.stride), dims=(-2, -1))
    with torch.no_grad():
        middle = network(x)[..., 20:44, 20:44]
        torch.testing.assert_close(network(moved)[..., 24:48, 16:40], middle)


def test_unfit_sizes_and_settings_are_refused() -> None:
    with pytest.raises(UserError, match="multiples of 4 px, but got 8 × 10"):
        VanillaUNet(base_channels=2, depth=2)(torch.zeros(1, 1, 8, 10))
    with pytest.raises(UserError, match="depth must be at least 1"):
        VanillaUNet(depth=0)
