"""V-Net's own stages."""

from typing import Any

import torch

from lightning_emseg.networks.volumes import VNet


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
