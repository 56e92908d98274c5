"""CleftNet: what its attention adds, and its settings."""

from typing import Any

import pytest
import torch

from data_modules.errors import UserError
from lightning_emseg.networks.volumes import CleftNet, ResUNet3D
from lightning_emseg.networks.volumes.feature_augmentor import FeatureAugmentor


def test_without_augmentors_it_is_the_residual_network() -> None:
    torch.manual_seed(0)
    network = CleftNet(widths=(8, 8, 16), patch=(4, 8, 8), attention="none").eval()
    other = ResUNet3D(maps=2, widths=(8, 8, 16), patch=(4, 8, 8)).eval()
    other.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(x), other(x))


def test_only_attention_sees_the_whole_volume() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 4, 8, 64)
    changed = x.clone()
    changed[..., -8:] += 5
    for attention, reaches in (("augmentor", True), ("self", True), ("none", False)):
        kind: Any = attention
        network = CleftNet(widths=(8, 8), patch=(4, 8, 64), attention=kind).eval()
        with torch.no_grad():
            difference = (network(x) - network(changed))[..., :8].abs().max()
        assert bool(difference > 0) is reaches


def test_unfit_settings_are_refused() -> None:
    with pytest.raises(UserError, match="one of augmentor, self, none, not 'both'"):
        CleftNet(attention="both")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing to scale"):
        CleftNet(attention="none", scaled_attention=True)
    with pytest.raises(UserError, match="multiples of 8, but got 12"):
        CleftNet(widths=(12, 16), patch=(8, 16, 16))
    scaled = CleftNet(widths=(8, 16), patch=(8, 16, 16), scaled_attention=True)
    found = [each.scale for each in scaled.modules() if isinstance(each, FeatureAugmentor)]
    assert found == pytest.approx([8**-0.5, 16**-0.5, 16**-0.5])
