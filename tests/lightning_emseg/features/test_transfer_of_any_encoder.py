"""What MoCo learns with any encoder comes through `emseg export encoder` into features and into U-Nets."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.commands.export.encoder import released_format
from lightning_emseg.features.encoder import open_encoder
from lightning_emseg.modules.moco import MoCo
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.unet_transfer import UNetTransfer
from lightning_emseg.weights import MocoWeights, first_convolution, initialise_encoder, load_moco_weights


def pretrained(architecture: str) -> MoCo:
    torch.manual_seed(1)
    return MoCo(architecture, dim=8, queue_size=8, grey_mean=120.0, grey_std=30.0).eval()


def exported(module: MoCo, path: Path) -> Path:
    checkpoint: dict[str, object] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(released_format(checkpoint, path), path)
    return path


def last_stage(module: MoCo, image: Tensor) -> Tensor:
    """Maps before all that timm has behind the last stage."""
    backbone: Any = module.encoder_q.backbone
    maps: Tensor = backbone.forward_intermediates((image.float() - 120) / 30, indices=1, intermediates_only=True)[-1]
    return maps


@pytest.mark.parametrize(
    "architecture", ["mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "densenet121", "resnet18"]
)
def test_unets_of_an_exported_encoder_share_its_maps(architecture: str, tmp_path: Path) -> None:
    module = pretrained(architecture)
    file = exported(module, tmp_path / "encoder.pth")
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = last_stage(module, image)
        for unet in (
            UNet(f"tu-{architecture}", encoder_weights=str(file)),
            UNetTransfer(str(file), encoder=f"tu-{architecture}"),
        ):
            unet.initialise_weights()
            unet.eval()
            found = unet.get_submodule("network.encoder")((image.float() - unet.grey_mean) / unet.grey_std)[-1]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_features_of_the_file_equal_mocos(tmp_path: Path) -> None:
    module = pretrained("efficientnet_b0")
    encoder = open_encoder("a", str(exported(module, tmp_path / "encoder.pth")), (1.0, 1.0))
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = module(image)
    torch.testing.assert_close(encoder.features(encoder.normalised(image)), wanted, rtol=1e-4, atol=1e-5)


def weights_of(architecture: str, tmp_path: Path) -> MocoWeights:
    return load_moco_weights(exported(pretrained(architecture), tmp_path / "encoder.pth"))


def smps(architecture: str, channels: int = 1) -> torch.nn.Module:
    encoder: torch.nn.Module = smp.encoders.get_encoder(f"tu-{architecture}", in_channels=channels, weights=None)
    return encoder.eval()


def test_layers_behind_the_last_stage_are_reported(tmp_path: Path) -> None:
    weights = weights_of("mobilenetv3_small_050", tmp_path)
    assert weights.architecture == "mobilenetv3_small_050"
    report = initialise_encoder(smps("mobilenetv3_small_050"), weights)
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    assert report.behind == ("conv_head.weight", "conv_head.bias")
    assert "2 left out behind the last stage (conv_head.weight, conv_head.bias)" in str(report)


@pytest.mark.parametrize(
    ("architecture", "key"), [("resnet18", "layer3.22.conv1.weight"), ("convnext_atto", "stages.3.blocks.9.gamma")]
)
def test_deeper_networks_are_not_mistaken_for_heads(architecture: str, key: str, tmp_path: Path) -> None:
    weights = weights_of(architecture, tmp_path)
    deeper = MocoWeights(weights.path, {**weights.state_dict, key: torch.zeros(3)}, None)
    with pytest.raises(UserError, match=rf"1 are not in the encoder \({key}\)"):
        initialise_encoder(smps(architecture), deeper)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not fit the encoder|fits no weight of the encoder"):
        initialise_encoder(smps("regnetx_002"), weights_of("mobilenetv3_small_050", tmp_path))


@pytest.mark.parametrize("architecture", ["mobilenetv3_small_050", "convnext_atto", "resnet18d"])
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
        ("resnet18d", "conv1.0.weight"),
        ("mobilenetv3_small_050", "conv_stem.weight"),
        ("densenet121", "features.conv0.weight"),
        ("vit_tiny_patch16_224", "patch_embed.proj.weight"),
    ):
        backbone = pretrained(architecture).get_submodule("encoder_q.backbone")
        assert first_convolution(backbone.state_dict()) == key
    assert first_convolution({"fc.weight": torch.zeros(2, 2)}) is None
