"""Encoders compute what torchvision's ResNets compute with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torchvision.models import resnet18  # type: ignore[import-untyped]

from data_modules.errors import UserError
from lightning_emseg.features.downsampling import keep_resolution
from lightning_emseg.features.encoder import Encoder, open_encoder
from tests.support.known_encoders import save_released

IMAGES = (100.0, 20.0)
"""Mean and standard deviation of the images."""


def small(channels: int = 1) -> Any:
    return timm.create_model("test_resnet", num_classes=0, in_chans=channels)


def torchvisions(channels: int = 1, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = resnet18()
    network.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    network.avgpool, network.fc = torch.nn.Identity(), torch.nn.Identity()
    return network.eval()


def maps_of(network: Any, normalised: Tensor) -> Tensor:
    """Torchvision flattens what its pooling leaves."""
    with torch.no_grad():
        flat: Tensor = network(normalised)
    side = round((flat.shape[1] // 512) ** 0.5)
    return flat.view(len(flat), 512, side, side)


@pytest.fixture
def grey() -> Tensor:
    return torch.randint(0, 256, (2, 1, 96, 96), dtype=torch.uint8)


def test_file_gives_torchvisions_maps_and_features(tmp_path: Path, grey: Tensor) -> None:
    network = torchvisions()
    file = save_released(tmp_path / "e.pth", network, norms={"mean": 0.5, "std": 0.25})
    encoder = open_encoder("a", str(file), IMAGES)
    assert (encoder.architecture, encoder.channels, encoder.normalised_by) == ("resnet18", 1, "the file")
    wanted = maps_of(network, (grey / 255 - 0.5) / 0.25)
    torch.testing.assert_close(encoder.maps(encoder.normalise(grey)), wanted, rtol=1e-4, atol=1e-4)
    features = encoder.features(encoder.normalise(grey))
    torch.testing.assert_close(features, wanted.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


def test_grey_files_default_to_image_norms(tmp_path: Path, grey: Tensor) -> None:
    encoder = open_encoder("a", str(save_released(tmp_path / "e.pth", small(), arch="test_resnet")), IMAGES)
    assert encoder.normalised_by == "the images"
    torch.testing.assert_close(encoder.normalise(grey), (grey.float() - 100) / 20)


def test_colour_files_default_to_imagenet_norms(tmp_path: Path, grey: Tensor) -> None:
    encoder = open_encoder("a", str(save_released(tmp_path / "e.pth", small(3), arch="test_resnet")), IMAGES)
    assert (encoder.channels, encoder.normalised_by) == (3, "ImageNet")
    normalised = encoder.normalise(grey)
    assert normalised.shape == (2, 3, 96, 96)
    torch.testing.assert_close(normalised[:, 2:], (grey / 255 - 0.406) / 0.225)


@pytest.mark.parametrize(("name", "neurons"), [("resnet34", 512), ("resnet50", 2048)])
def test_depth_follows_from_the_keys(tmp_path: Path, name: str, neurons: int) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0, in_chans=1)
    # Zeros that share one number, so that the file is small.
    zeros = {key: torch.zeros(()).expand(value.shape) for key, value in network.state_dict().items()}
    file = tmp_path / "e.pth"
    torch.save({"state_dict": {f"module.encoder_q.{key}": value for key, value in zeros.items()}}, file)
    encoder = open_encoder("a", str(file), IMAGES)
    assert encoder.architecture == name
    assert encoder.features(torch.zeros(1, 1, 32, 32)).shape == (1, neurons)


def test_random_weights_depend_only_on_their_seed() -> None:
    def first(seed: int) -> Tensor:
        weight = open_encoder("a", f"random:test_resnet:{seed}", IMAGES).network.get_parameter(
            "backbone.conv1.0.weight"
        )
        return weight.detach()

    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_reduced_resnet_equals_one_with_unit_strides(tmp_path: Path) -> None:
    network = torchvisions()
    encoder = keep_resolution(open_encoder("a", str(save_released(tmp_path / "e.pth", network)), IMAGES), 2)
    for block in (network.layer4[0], network.layer3[0]):
        block.conv1.stride = block.downsample[0].stride = (1, 1)
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(encoder.maps(image), maps_of(network, image), rtol=1e-4, atol=1e-4)


def test_imagenet_weights_come_with_their_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    make = timm.create_model
    asked: list[bool] = []

    def without_download(name: str, pretrained: bool, **options: Any) -> Any:
        asked.append(pretrained)
        return make(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_download)
    encoder = open_encoder("a", "imagenet:resnet18", IMAGES)
    assert asked == [True]
    assert (encoder.channels, encoder.normalised_by) == (3, "ImageNet")
    assert encoder.mean == pytest.approx((123.675, 116.28, 103.53))


def unreachable(*_: object, **__: object) -> None:
    raise OSError("no route")


def test_unavailable_encoders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits_not = small()
    fits_not.layer1[0].conv1 = torch.nn.Conv2d(64, 32, 3)
    for spec, message in (
        (str(tmp_path / "absent.pth"), "no such file"),
        (str(save_released(tmp_path / "odd.pth", small())), r"blocks, which is none of resnet18"),
        (str(save_released(tmp_path / "fits_not.pth", fits_not, arch="test_resnet")), r"does not fit the encoder"),
        (str(save_released(tmp_path / "two.pth", small(2), arch="test_resnet")), "images of 2 channels"),
        ("random:resnet18", "an architecture and a seed"),
        ("random:resnet18:x", "an architecture and a seed"),
        ("random:resnet19:0", "resnet19.*give an architecture of timm"),
    ):
        with pytest.raises(UserError, match=message):
            open_encoder("a", spec, IMAGES)
    resnet = open_encoder("a", "random:test_resnet:0", IMAGES)
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match="imagenet:resnet18 cannot be downloaded"):
        open_encoder("a", "imagenet:resnet18", IMAGES)
    with pytest.raises(UserError, match=r"--drop-stages 5: a \(test_resnet\) has 0 to 4 downsamplings that can"):
        keep_resolution(resnet, 5)
    with pytest.raises(UserError, match="--drop-stages -1"):
        keep_resolution(resnet, -1)


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
    normalised = encoder.normalise(images())
    found = encoder.maps(normalised)
    assert found.shape == (2, maps, 2, 2)
    with torch.no_grad():
        wanted = grey_network(architecture).forward_features(normalised)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.features(normalised), wanted.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_vit_tokens_lie_where_their_patches_are() -> None:
    encoder = open_encoder("a", "random:vit_tiny_patch16_224:1", IMAGES)
    normalised = encoder.normalise(images()[:, :, :, :48])
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
    assert encoder.maps(encoder.normalise(images(70))).shape == (2, 192, 5, 5)


def test_swin_channels_come_first() -> None:
    encoder = open_encoder("a", "random:swin_tiny_patch4_window7_224:0", IMAGES)
    normalised = encoder.normalise(images()[:, :, :, :32])
    found = encoder.maps(normalised)
    assert found.shape == (2, 768, 2, 1)
    # The norm of the last layer is over features: had they been taken for places, it would not hold.
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(2, 2, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.var(dim=1, unbiased=False), torch.ones(2, 2, 1), rtol=0, atol=1e-2)
    with pytest.raises(UserError, match=r"swin_tiny.*cannot encode images of 70 × 70 px \(.*divisible by patch size"):
        encoder.maps(encoder.normalise(images(70)))


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
    normalised = encoder.normalise(images())
    assert torch.equal(encoder.maps(normalised), wanted.maps(normalised))


def test_architecture_can_be_given_with_the_file(tmp_path: Path) -> None:
    file = save_released(tmp_path / "with:colon.pth", grey_network("mobilenetv3_small_050", seed=3), arch="unknown")
    encoder = open_encoder("a", f"mobilenetv3_small_050:{file}", IMAGES)
    normalised = encoder.normalise(images())
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
    assert torch.isfinite(encoder.features(encoder.normalise(images()))).all()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    network = grey_network("mobilenetv3_small_050")
    del network.blocks[5]
    with pytest.raises(UserError, match=r"keys are missing \(blocks\.5\..*would stay random"):
        opened(save_released(tmp_path / "e.pth", network, arch="mobilenetv3_small_050"))
