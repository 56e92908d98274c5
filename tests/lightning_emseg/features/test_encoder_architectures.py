"""Maps of any architecture of timm stand where parts of the image stand; files and sizes that do not fit are named."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.features.encoder import Encoder, open_encoder
from tests.support.known_encoders import save_released

IMAGES = (100.0, 20.0)

# timm's "test" networks have the blocks of the published ones, and a hundredth of their weights.
CONVOLUTIONAL = {
    "test_efficientnet": 256,
    "test_convnext": 64,
    "test_byobnet": 256,
    "densenet121": 1024,
    "mobilenetv3_small_050": 288,
}


def images(side: int = 64) -> Tensor:
    return torch.randint(0, 256, (2, 1, side, side), dtype=torch.uint8)


def grey_network(architecture: str, seed: int = 1, channels: int = 1) -> Any:
    torch.manual_seed(seed)
    return timm.create_model(architecture, num_classes=0, in_chans=channels).eval()


@pytest.mark.parametrize(("architecture", "maps"), CONVOLUTIONAL.items())
def test_convolutional_maps_match_timm(architecture: str, maps: int) -> None:
    encoder = open_encoder("a", f"random:{architecture}:1", IMAGES)
    normalised = encoder.normalised(images())
    found = encoder.maps(normalised)
    assert found.shape == (2, maps, 2, 2)
    with torch.no_grad():
        wanted = grey_network(architecture).forward_features(normalised)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.features(normalised), wanted.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_vit_tokens_lie_where_their_patches_are() -> None:
    encoder = open_encoder("a", "random:vit_tiny_patch16_224:1", IMAGES)
    normalised = encoder.normalised(images()[:, :, :, :48])
    found = encoder.maps(normalised)
    torch.manual_seed(1)
    other = timm.create_model("vit_tiny_patch16_224", num_classes=0, in_chans=1, dynamic_img_size=True).eval()
    with torch.no_grad():
        tokens = other.forward_features(normalised)
    assert found.shape == (2, 192, 4, 3)
    assert tokens.shape == (2, 13, 192)
    # A class token, then patches row by row.
    for row, column in ((0, 0), (1, 2), (3, 1)):
        torch.testing.assert_close(found[:, :, row, column], tokens[:, 1 + 3 * row + column], rtol=1e-4, atol=1e-5)
    assert torch.equal(encoder.maps(normalised), found)
    assert encoder.maps(encoder.normalised(images(70))).shape == (2, 192, 5, 5)


def test_swin_channels_come_first() -> None:
    encoder = open_encoder("a", "random:swin_tiny_patch4_window7_224:0", IMAGES)
    normalised = encoder.normalised(images()[:, :, :, :32])
    found = encoder.maps(normalised)
    assert found.shape == (2, 768, 2, 1)
    # The norm of the last layer is over features: had they been taken for places, it would not hold.
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(2, 2, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.var(dim=1, unbiased=False), torch.ones(2, 2, 1), rtol=0, atol=1e-2)
    with pytest.raises(UserError, match=r"swin_tiny.*cannot encode images of 70 × 70 px \(.*divisible by patch size"):
        encoder.maps(encoder.normalised(images(70)))


def test_fixed_size_networks_take_the_images_size() -> None:
    spec = "random:mixer_s32_224:0"
    encoder = open_encoder("a", spec, IMAGES, (64, 96))
    assert encoder.maps(torch.zeros(1, 1, 64, 96)).shape == (1, 512, 2, 3)
    with pytest.raises(UserError, match="mixer_s32_224 takes images of 64 × 96 px only, but one has 64 × 64 px"):
        encoder.maps(torch.zeros(1, 1, 64, 64))
    with pytest.raises(UserError, match="mixer_s32_224 takes images of 224 × 224 px only, but one has 64 × 96 px"):
        open_encoder("a", spec, IMAGES).maps(torch.zeros(1, 1, 64, 96))


def opened(path: Path) -> Encoder:
    return open_encoder("a", str(path), IMAGES)


@pytest.mark.parametrize("architecture", ["mobilenetv3_small_050", "test_convnext", "test_vit"])
def test_files_state_their_architecture(tmp_path: Path, architecture: str) -> None:
    network = grey_network(architecture, seed=3)
    file = save_released(tmp_path / "e.pth", network, arch=architecture, norms={"mean": 0.5, "std": 0.25})
    encoder = opened(file)
    assert (encoder.architecture, encoder.channels, encoder.normalised_by) == (architecture, 1, "the file")
    wanted = open_encoder("b", f"random:{architecture}:3", IMAGES)
    normalised = encoder.normalised(images())
    assert torch.equal(encoder.maps(normalised), wanted.maps(normalised))


def test_architecture_can_be_given_with_the_file(tmp_path: Path) -> None:
    file = save_released(tmp_path / "with:colon.pth", grey_network("mobilenetv3_small_050", seed=3), arch="unknown")
    encoder = open_encoder("a", f"mobilenetv3_small_050:{file}", IMAGES)
    normalised = encoder.normalised(images())
    wanted = open_encoder("b", "random:mobilenetv3_small_050:3", IMAGES).maps(normalised)
    assert (encoder.architecture, encoder.source) == ("mobilenetv3_small_050", str(file))
    assert torch.equal(encoder.maps(normalised), wanted)
    with pytest.raises(UserError, match=r"records no architecture.*unknown.*as a=efficientnet_b0:.*with:colon\.pth"):
        opened(file)
    with pytest.raises(UserError, match="timm has no architecture 'mobilenet_v9'"):
        open_encoder("a", f"mobilenet_v9:{file}", IMAGES)
    with pytest.raises(UserError, match=r"does not fit the encoder|fits no weight of the encoder"):
        open_encoder("a", f"regnetx_002:{file}", IMAGES)


@pytest.mark.parametrize("architecture", ["test_resnet", "resnet10t", "test_vit"])
def test_three_channel_files_are_recognised(tmp_path: Path, architecture: str) -> None:
    encoder = opened(save_released(tmp_path / "e.pth", grey_network(architecture, channels=3), arch=architecture))
    assert (encoder.channels, encoder.normalised_by) == (3, "ImageNet")
    assert torch.isfinite(encoder.features(encoder.normalised(images()))).all()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    network = grey_network("mobilenetv3_small_050")
    del network.blocks[5]
    with pytest.raises(UserError, match=r"keys are missing \(blocks\.5\..*would stay random"):
        opened(save_released(tmp_path / "e.pth", network, arch="mobilenetv3_small_050"))
