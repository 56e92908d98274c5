"""The attention gate, written out."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_emseg.networks.volumes.attnunet3d import AttentionGate


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
