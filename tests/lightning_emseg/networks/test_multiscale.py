"""Multi-scale input: which sizes the network sees, and how the scales are mixed."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.multiscale import MultiScaleInput
from lightning_emseg.networks.vanilla_unet import VanillaUNet


class Recorder(nn.Module):
    """Returns its input as logits and notes the sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape[-2:]))
        return x


def test_sizes_are_rounded_to_the_stride() -> None:
    recorder = Recorder()
    network = MultiScaleInput(recorder, scales=(0.1, 0.5, 1.0, 1.5), stride=16)
    assert network(torch.rand(1, 1, 48, 80)).shape == (1, 1, 48, 80)
    assert recorder.sizes == [(16, 16), (32, 48), (48, 80), (80, 128)]


def test_starts_as_the_mean_of_the_scales() -> None:
    network = MultiScaleInput(Recorder(), stride=8)
    x = torch.rand(2, 1, 32, 48)
    half = F.interpolate(F.interpolate(x, (16, 24), mode="bilinear", antialias=True), (32, 48), mode="bilinear")
    torch.testing.assert_close(network(x), (x + half) / 2)


def test_output_lies_between_the_scales_at_every_pixel() -> None:
    torch.manual_seed(0)
    network = MultiScaleInput(Recorder(), scales=(0.5, 1.0, 2.0), stride=8, classes=2)
    last: Any = network.attention[-1]
    nn.init.normal_(last.weight, std=20)
    x = torch.randn(1, 2, 32, 32)
    scales = torch.stack(network.logits_by_scale(x))
    fused = network(x)
    assert torch.all(fused <= scales.amax(0) + 1e-5)
    assert torch.all(fused >= scales.amin(0) - 1e-5)
    assert not torch.allclose(fused, scales.mean(0), atol=1e-2)


def test_attention_can_choose_one_scale() -> None:
    network = MultiScaleInput(Recorder(), stride=8)
    last: Any = network.attention[-1]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([-100.0, 0.0]))
    x = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(x), x)


def test_wraps_a_network_and_learns() -> None:
    torch.manual_seed(0)
    network = MultiScaleInput(VanillaUNet(base_channels=4, depth=2), stride=8)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):  # the attention's first layer learns once its zero last layer has moved
        optimiser.zero_grad()
        (network(torch.randn(2, 1, 16, 24)) ** 2).mean().backward()
        optimiser.step()
    assert network.stride == 8
    assert all(p.grad is not None and torch.any(p.grad != 0) for p in network.attention.parameters())
    assert all(p.grad is not None for p in network.network.parameters())


def test_unfit_settings_and_sizes_are_refused() -> None:
    for scales in ((), (0.0, 1.0), (1.0, 1.0)):
        with pytest.raises(UserError, match="scales must be positive and differ"):
            MultiScaleInput(Recorder(), scales=scales)
    with pytest.raises(UserError, match="multiple of the network's 16, but is 8"):
        MultiScaleInput(VanillaUNet(base_channels=2), stride=8)
    with pytest.raises(UserError, match="multiples of 8 px, but got 12 × 16"):
        MultiScaleInput(Recorder(), stride=8)(torch.zeros(1, 1, 12, 16))
