"""Blocks that networks of volumes are made of."""

from typing import Any

import torch

from lightning_emseg.networks.volumes.blocks import Residual


def test_residual_is_added_before_the_last_activation() -> None:
    torch.manual_seed(0)
    block = Residual(4).eval()
    norm: Any = block.second[1]
    x = torch.randn(2, 4, 3, 3, 3)
    with torch.no_grad():
        norm.weight.zero_()
        torch.testing.assert_close(block(x), torch.where(x > 0, x, torch.expm1(x)))
