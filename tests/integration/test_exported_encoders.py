"""Encoders of MoCo keep their features through `emseg export encoder` into U-Nets and `emseg features`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_emseg.commands.export import released_format
from lightning_emseg.features.encoder import open_encoder
from lightning_emseg.modules.moco import MoCo
from lightning_emseg.modules.unet import UNet


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


# timm's "test" networks have the blocks of the published ones, and a hundredth of their weights.
@pytest.mark.parametrize(
    "architecture",
    [
        "test_resnet",
        "test_convnext",
        # Has layers behind its last stage.
        "mobilenetv3_small_050",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b0", "densenet121")),
    ],
)
def test_unets_of_an_exported_encoder_share_its_maps(architecture: str, tmp_path: Path) -> None:
    module = pretrained(architecture)
    file = exported(module, tmp_path / "encoder.pth")
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = last_stage(module, image)
        unet = UNet(f"tu-{architecture}", encoder_weights=str(file))
        unet.initialise_weights()
        unet.eval()
        found = unet.get_submodule("network.encoder")((image.float() - unet.grey_mean) / unet.grey_std)[-1]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_features_of_the_file_equal_mocos(tmp_path: Path) -> None:
    module = pretrained("test_efficientnet")
    encoder = open_encoder("a", str(exported(module, tmp_path / "encoder.pth")), (1.0, 1.0))
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = module(image)
    torch.testing.assert_close(encoder.features(encoder.normalise(image)), wanted, rtol=1e-4, atol=1e-5)
