"""SegNet's unpooling."""

import torch
from torch import Tensor

from lightning_emseg.networks.volumes import SegNet3D


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
