"""Encoders compute what torchvision's ResNets compute with the same weights; test_any_encoder.py has the others."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torchvision.models import resnet18  # type: ignore[import-untyped]

from data_modules.errors import UserError
from lightning_emseg.features.encoder import keep_resolution, open_encoder

IMAGES = (100.0, 20.0)
"""Mean and standard deviation of the images."""


def torchvisions(channels: int = 1, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = resnet18()
    network.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    network.avgpool, network.fc = torch.nn.Identity(), torch.nn.Identity()
    return network.eval()


def save(path: Path, network: Any, **extra: object) -> Path:
    state = {f"module.encoder_q.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, **extra}, path)
    return path


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
    file = save(tmp_path / "e.pth", network, norms={"mean": 0.5, "std": 0.25})
    encoder = open_encoder("a", str(file), IMAGES)
    assert (encoder.architecture, encoder.channels, encoder.normalised_by) == ("resnet18", 1, "the file")
    wanted = maps_of(network, (grey / 255 - 0.5) / 0.25)
    torch.testing.assert_close(encoder.maps(encoder.normalised(grey)), wanted, rtol=1e-4, atol=1e-4)
    features = encoder.features(encoder.normalised(grey))
    torch.testing.assert_close(features, wanted.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


def test_grey_files_default_to_image_norms(tmp_path: Path, grey: Tensor) -> None:
    encoder = open_encoder("a", str(save(tmp_path / "e.pth", torchvisions())), IMAGES)
    assert encoder.normalised_by == "the images"
    torch.testing.assert_close(encoder.normalised(grey), (grey.float() - 100) / 20)


def test_colour_files_default_to_imagenet_norms(tmp_path: Path, grey: Tensor) -> None:
    encoder = open_encoder("a", str(save(tmp_path / "e.pth", torchvisions(channels=3))), IMAGES)
    assert (encoder.channels, encoder.normalised_by) == (3, "ImageNet")
    normalised = encoder.normalised(grey)
    assert normalised.shape == (2, 3, 96, 96)
    torch.testing.assert_close(normalised[:, 2:], (grey / 255 - 0.406) / 0.225)


@pytest.mark.parametrize(("name", "neurons"), [("resnet34", 512), ("resnet50", 2048)])
def test_depth_follows_from_the_keys(tmp_path: Path, name: str, neurons: int) -> None:
    file = save(tmp_path / "e.pth", timm.create_model(name, num_classes=0, in_chans=1))
    encoder = open_encoder("a", str(file), IMAGES)
    assert encoder.architecture == name
    assert encoder.features(torch.zeros(1, 1, 32, 32)).shape == (1, neurons)


def test_random_weights_depend_only_on_their_seed() -> None:
    def first(seed: int) -> Tensor:
        weight = open_encoder("a", f"random:resnet18:{seed}", IMAGES).network.get_parameter("backbone.conv1.weight")
        return weight.detach()

    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("stages", "side"), [(0, 3), (1, 6), (2, 12), (3, 24), (4, 48)])
def test_dropped_downsamplings_double_the_maps(stages: int, side: int) -> None:
    encoder = open_encoder("a", "random:resnet18:0", IMAGES)
    changed = keep_resolution(encoder, stages)
    image = torch.randn(1, 1, 96, 96)
    assert changed.maps(image).shape == (1, 512, side, side)
    assert encoder.maps(image).shape == (1, 512, 3, 3)


def test_reduced_resnet_equals_one_with_unit_strides(tmp_path: Path) -> None:
    network = torchvisions()
    encoder = keep_resolution(open_encoder("a", str(save(tmp_path / "e.pth", network)), IMAGES), 2)
    for block in (network.layer4[0], network.layer3[0]):
        block.conv1.stride = block.downsample[0].stride = (1, 1)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(encoder.maps(image), maps_of(network, image), rtol=1e-4, atol=1e-4)


def test_resnet_50_keeps_its_resolution() -> None:
    encoder = keep_resolution(open_encoder("a", "random:resnet50:0", IMAGES), 2)
    assert encoder.maps(torch.zeros(1, 1, 64, 64)).shape == (1, 2048, 8, 8)


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
    odd = torchvisions()
    odd.layer2.append(odd.layer2[1])
    fits_not = torchvisions()
    fits_not.layer1[0].conv1 = torch.nn.Conv2d(64, 32, 3)
    two = save(tmp_path / "two.pth", torchvisions(channels=2))
    for spec, message in (
        (str(tmp_path / "absent.pth"), "no such file"),
        (str(save(tmp_path / "odd.pth", odd)), r"blocks, which is none of resnet18"),
        (str(save(tmp_path / "fits_not.pth", fits_not)), r"does not fit the encoder"),
        (str(two), "images of 2 channels"),
        ("random:resnet18", "an architecture and a seed"),
        ("random:resnet18:x", "an architecture and a seed"),
        ("random:resnet19:0", "resnet19.*give an architecture of timm"),
    ):
        with pytest.raises(UserError, match=message):
            open_encoder("a", spec, IMAGES)
    resnet = open_encoder("a", "random:resnet18:0", IMAGES)
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match="imagenet:resnet18 cannot be downloaded"):
        open_encoder("a", "imagenet:resnet18", IMAGES)
    with pytest.raises(UserError, match=r"--drop-stages 5: a \(resnet18\) has 0 to 4 downsamplings that can"):
        keep_resolution(resnet, 5)
    with pytest.raises(UserError, match="--drop-stages -1"):
        keep_resolution(resnet, -1)
