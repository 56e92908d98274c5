"""Weights of any architecture of timm start an encoder, and those of another one are refused."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.core.weights import MocoWeights, first_convolution, initialise_encoder, load_moco_weights
from tests.support.known_encoders import save_released


def weights_of(architecture: str, tmp_path: Path) -> MocoWeights:
    torch.manual_seed(1)
    network = timm.create_model(architecture, num_classes=0, in_chans=1)
    return load_moco_weights(save_released(tmp_path / "encoder.pth", network, arch=architecture))


def smps(architecture: str, channels: int = 1) -> torch.nn.Module:
    encoder: torch.nn.Module = smp.encoders.get_encoder(f"tu-{architecture}", in_channels=channels, weights=None)
    return encoder.eval()


def test_layers_behind_the_last_stage_are_reported(tmp_path: Path) -> None:
    weights = weights_of("mobilenetv3_small_050", tmp_path)
    assert weights.architecture == "mobilenetv3_small_050"
    report = initialise_encoder(smps("mobilenetv3_small_050"), weights)
    assert report.behind == ("conv_head.weight", "conv_head.bias")
    assert "2 left out behind the last stage (conv_head.weight, conv_head.bias)" in str(report)


@pytest.mark.parametrize(
    ("architecture", "key"), [("test_resnet", "layer3.22.conv1.weight"), ("test_convnext", "stages.3.blocks.9.gamma")]
)
def test_deeper_networks_are_not_mistaken_for_heads(architecture: str, key: str, tmp_path: Path) -> None:
    weights = weights_of(architecture, tmp_path)
    deeper = MocoWeights(weights.path, {**weights.state_dict, key: torch.zeros(3)}, None)
    with pytest.raises(UserError, match=rf"1 are not in the encoder \({key}\)"):
        initialise_encoder(smps(architecture), deeper)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not fit the encoder|fits no weight of the encoder"):
        initialise_encoder(smps("test_byobnet"), weights_of("mobilenetv3_small_050", tmp_path))


@pytest.mark.parametrize("architecture", ["mobilenetv3_small_050", "test_convnext", "resnet10t"])
def test_three_channels_see_grey_as_one_does(architecture: str, tmp_path: Path) -> None:
    weights = weights_of(architecture, tmp_path)
    one, three = smps(architecture), smps(architecture, 3)
    initialise_encoder(one, weights)
    initialise_encoder(three, weights)
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        wanted = one(image)[-1]
        torch.testing.assert_close(three(image.repeat(1, 3, 1, 1))[-1], wanted, rtol=1e-3, atol=1e-4)
        back = smps(architecture)
        initialise_encoder(back, MocoWeights(weights.path, dict(_unwrapped(three)), None))
        torch.testing.assert_close(back(image)[-1], wanted, rtol=1e-3, atol=1e-4)


def _unwrapped(encoder: torch.nn.Module) -> dict[str, Tensor]:
    return {key.removeprefix("model."): value for key, value in encoder.state_dict().items()}


def test_first_convolution_is_found_in_any_network() -> None:
    for architecture, key in (
        ("resnet18", "conv1.weight"),
        ("test_resnet", "conv1.0.weight"),
        ("mobilenetv3_small_050", "conv_stem.weight"),
        ("densenet121", "features.conv0.weight"),
        ("test_vit", "patch_embed.proj.weight"),
    ):
        with torch.device("meta"):
            backbone = timm.create_model(architecture, num_classes=0, in_chans=1)
        assert first_convolution(backbone.state_dict()) == key
    assert first_convolution({"fc.weight": torch.zeros(2, 2)}) is None
