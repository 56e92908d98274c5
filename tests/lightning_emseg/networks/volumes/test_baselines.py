"""AttnUnet, SegNet and V-Net."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_emseg.networks.volumes import SegNet3D, VNet
from lightning_emseg.networks.volumes.baselines import AttentionGate


def test_attention_gate_by_hand() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(4, 6, (1, 1, 1)).eval()
    skip, below = torch.randn(2, 4, 2, 3, 3), torch.randn(2, 6, 2, 3, 3)

    def pointwise(convolution: nn.Conv3d, x: Tensor) -> Tensor:
        out = torch.einsum("oc,bcn->bon", convolution.weight[:, :, 0, 0, 0], x.flatten(2))
        return out if convolution.bias is None else out + convolution.bias[:, None]

    with torch.no_grad():
        hidden = torch.clamp(pointwise(gate.of_skip, skip) + pointwise(gate.of_below, below), min=0)
        weights = 1 / (1 + torch.exp(-pointwise(gate.to_weight, hidden)))
        torch.testing.assert_close(gate.weights(skip, below).flatten(2), weights)
        last: Any = gate.out[0]
        # A fresh batch norm does nothing but divide by √(1 + ε).
        expected = pointwise(last, skip * weights.reshape(2, 1, 2, 3, 3)) / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(gate(skip, below).flatten(2), expected)


def test_attention_gate_interpolates_from_the_level_below() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(4, 6, (1, 2, 2)).eval()
    weights = gate.weights(torch.randn(1, 4, 3, 8, 8), torch.randn(1, 6, 3, 4, 4)).detach()
    assert weights.shape == (1, 1, 3, 8, 8)
    assert 0 < float(weights.min()) <= float(weights.max()) < 1
    with torch.no_grad():
        gate.to_weight.weight.zero_()
        gate.to_weight.bias.copy_(torch.tensor([100.0]))  # type: ignore[union-attr]
        skip = torch.randn(1, 4, 3, 8, 8)
        torch.testing.assert_close(gate(skip, torch.randn(1, 6, 3, 4, 4)), gate.out(skip))


def test_segnet_puts_values_back_where_the_maxima_were() -> None:
    torch.manual_seed(0)
    network = SegNet3D(widths=(4, 6, 8), patch=(3, 16, 16)).eval()
    seen: dict[str, Tensor] = {}

    def note(name: str, value: Tensor) -> None:
        seen[name] = value

    network.encoder[0].register_forward_hook(lambda module, given, made: note("pooled", made))
    network.decoder[1].register_forward_pre_hook(lambda module, given: note("unpooled", given[0]))
    with torch.no_grad():
        network(torch.randn(1, 1, 3, 16, 16))
    assert network.factors[0] == (1, 2, 2)
    pooled, unpooled = (
        seen[name].reshape(1, 4, 3, 8, 2, 8, 2).permute(0, 1, 2, 3, 5, 4, 6).flatten(5)
        for name in ("pooled", "unpooled")
    )
    # Windows of four voxels: one value each, where the maximum was.
    assert bool(((unpooled != 0).sum(-1) == 1).all())
    assert torch.equal(unpooled.abs().argmax(-1), pooled.argmax(-1))


def test_stages_of_vnet_are_residual() -> None:
    torch.manual_seed(0)
    network: Any = VNet(widths=(4, 6, 8), patch=(4, 16, 16)).eval()
    stages = [*zip(network.encoder, (1, 6, 8), (4, 6, 8), strict=True)]
    stages += zip(network.decoder, (12, 8), (6, 4), strict=True)
    for stage, before, width in stages:
        x, given = torch.randn(1, before, 2, 4, 4), torch.randn(1, width, 2, 4, 4)
        with torch.no_grad():
            stage.last[1].weight.zero_()
            torch.testing.assert_close(stage(x, given), torch.where(given > 0, given, 0.25 * given))
