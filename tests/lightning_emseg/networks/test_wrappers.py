"""Hypercolumns and multi-scale input."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from lightning_emseg.networks.wrappers import Hypercolumns, MultiScaleInput


def build(kind: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind("resnet18", encoder_weights=None, in_channels=1, classes=2, **options)


DECODERS: list[Any] = [
    pytest.param(smp.Unet, {}, id="unet"),
    pytest.param(smp.Unet, {"decoder_attention_type": "scse"}, id="unet-scse"),
    pytest.param(
        smp.Unet, {"encoder_depth": 3, "decoder_channels": (32, 16, 8), "decoder_use_norm": False}, id="unet-shallow"
    ),
    pytest.param(smp.Linknet, {}, id="linknet"),
    pytest.param(smp.MAnet, {"decoder_pab_channels": 8}, id="manet"),
]


@pytest.mark.parametrize(("kind", "options"), DECODERS)
def test_levels_are_those_of_the_decoder(kind: Any, options: dict[str, Any]) -> None:
    network = build(kind, **options).eval()
    x = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        expected = network.decoder(network.encoder(x))
        wrapped = Hypercolumns(network, hidden_channels=4).eval()
        levels = wrapped.levels(x)
    assert torch.equal(levels[-1], expected)
    assert len(levels) == len(network.decoder.blocks)
    sides = [level.shape[-1] for level in levels]
    assert sides == [96 // 2**power for power in range(len(levels))][::-1]


def test_equals_the_column_built_in_full() -> None:
    wrapped = Hypercolumns(build(smp.Unet), hidden_channels=5).eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        column = torch.cat([F.interpolate(level, (64, 64), mode="bilinear") for level in wrapped.levels(x)], dim=1)
        assert column.shape[1] == 496
        projections: list[Any] = list(wrapped.projections)
        weight = torch.cat([projection.weight for projection in projections], dim=1)
        expected = wrapped.head(F.relu(F.conv2d(column, weight, projections[0].bias)))
        torch.testing.assert_close(wrapped(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "options"), DECODERS)
def test_shape_stride_and_every_parameter_learns(kind: Any, options: dict[str, Any]) -> None:
    network = build(kind, **options)
    network(torch.randn(2, 1, 32, 32)).sum().backward()
    # Leftovers of smp's own: the stages that encoder_depth cuts off, an attention where no skip comes in.
    leftovers = {f"network.{name}" for name, parameter in network.named_parameters() if parameter.grad is None}
    network.zero_grad(set_to_none=True)
    wrapped = Hypercolumns(network, hidden_channels=4)
    size = (33, 50) if wrapped.stride == 1 else (64, 32)
    logits = wrapped(torch.randn(2, 1, *size))
    assert logits.shape == (2, 2, *size)
    (logits**2).sum().backward()
    assert {name for name, parameter in wrapped.named_parameters() if parameter.grad is None} == leftovers


def test_compiles_as_one_graph() -> None:
    wrapped = Hypercolumns(build(smp.Unet, encoder_depth=3, decoder_channels=(8, 8, 4)), hidden_channels=4).eval()
    x = torch.randn(1, 1, 16, 16)
    compiled: Any = torch.compile(wrapped, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), wrapped(x))


def test_a_frozen_encoder_stays_frozen() -> None:
    network = build(smp.Unet)
    network.freeze_encoder()
    wrapped = Hypercolumns(network, hidden_channels=4).train()
    norms = [m for m in wrapped.network.encoder.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[union-attr]
    assert not any(norm.training for norm in norms)


def test_hypercolumns_refuse_unfit_networks_and_sizes() -> None:
    with pytest.raises(UserError, match=r"smp\.MAnet, but got FPN"):
        Hypercolumns(build(smp.FPN))
    with pytest.raises(UserError, match="but got Conv2d"):
        Hypercolumns(nn.Conv2d(1, 1, 1))
    with pytest.raises(UserError, match="classification head"):
        Hypercolumns(build(smp.Unet, aux_params={"classes": 2}))
    with pytest.raises(UserError, match="multiples of 32 px, but got 64 × 40"):
        Hypercolumns(build(smp.Linknet))(torch.zeros(1, 1, 64, 40))


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


def test_multiscale_refuses_unfit_scales_and_sizes() -> None:
    for scales in ((), (0.0, 1.0), (1.0, 1.0)):
        with pytest.raises(UserError, match="scales must be positive and differ"):
            MultiScaleInput(Recorder(), scales=scales)
    with pytest.raises(UserError, match="multiple of the network's 16, but is 8"):
        MultiScaleInput(VanillaUNet(base_channels=2), stride=8)
    with pytest.raises(UserError, match="multiples of 8 px, but got 12 × 16"):
        MultiScaleInput(Recorder(), stride=8)(torch.zeros(1, 1, 12, 16))
