"""Networks without their last downsamplings are those whose strides were set to 1 by hand."""

import copy

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.features.downsampling import keep_resolution, without_downsamplings
from lightning_emseg.features.encoder import open_encoder

IMAGES = (100.0, 20.0)
BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
STRIDED = {
    kind: (
        *((f"layer{layer}.0.{convolution}", f"layer{layer}.0.downsample.0") for layer in (4, 3, 2)),
        ("maxpool",),
    )
    for kind, convolution in (("basic", "conv1"), ("bottleneck", "conv2"))
}
"""Modules of each downsampling, the last first."""


def image() -> Tensor:
    return torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", BLOCKS)
def test_maps_equal_networks_with_unit_strides(kind: str, stages: int) -> None:
    torch.manual_seed(0)
    # Layers without pooling behind them, as they stood alone before other networks were taken.
    network = ResNet(BLOCKS[kind], (1, 1, 1, 2), 0, 1, global_pool="", channels=(4, 8, 8, 12)).eval()
    unchanged = network(image())
    reduced = without_downsamplings(network, torch.zeros(1, 1, 64, 64), stages)
    by_hand = copy.deepcopy(network)
    for module in [name for step in STRIDED[kind][:stages] for name in step]:
        by_hand.get_submodule(module).stride = (1, 1)
    with torch.inference_mode():
        found, wanted = reduced(image()), by_hand(image())
    assert found.shape[-2:] == (2**stages, 2**stages)
    assert torch.equal(found, wanted)
    assert torch.equal(network(image()), unchanged)


def test_maps_of_efficientnet_have_unit_strides() -> None:
    architecture = "test_efficientnet"
    by_hand = timm.create_model(architecture, in_chans=1, num_classes=0, global_pool="").eval()
    encoder = open_encoder("a", f"random:{architecture}:0", IMAGES)
    by_hand.load_state_dict(encoder.network.get_submodule("backbone").state_dict())
    for module in ("blocks.4.0.conv_dw", "blocks.3.0.conv_dw", "blocks.2.0.conv_exp", "blocks.1.0.conv_exp"):
        by_hand.get_submodule(module).stride = (1, 1)
    with torch.inference_mode():
        wanted = by_hand(image())
    torch.testing.assert_close(keep_resolution(encoder, 4).maps(image()), wanted, rtol=1e-4, atol=1e-5)
    assert encoder.maps(image()).shape[-2:] == (1, 1)


@pytest.mark.parametrize(
    ("architecture", "most"),
    [
        ("test_convnext", 3),
        ("test_byobnet", 4),
        # Its shortcuts and its stem differ from those of other ResNets.
        ("resnet10t", 4),
        pytest.param("densenet121", 4, marks=pytest.mark.slow),
        ("mobilenetv3_small_050", 4),
    ],
)
def test_dropped_downsamplings_double_maps_of_any_network(architecture: str, most: int) -> None:
    encoder = open_encoder("a", f"random:{architecture}:0", IMAGES)
    side = encoder.maps(image()).shape[-1]
    for stages in (1, most):
        assert keep_resolution(encoder, stages).maps(image()).shape[-2:] == (side * 2**stages, side * 2**stages)
    with pytest.raises(UserError, match=rf"has 0 to {most} downsamplings that can be dropped"):
        keep_resolution(encoder, most + 1)


def test_unpadded_kernels_see_border_pixels_repeated() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2)).eval()
    given = torch.arange(16.0).view(1, 1, 4, 4)
    found = without_downsamplings(network, torch.zeros(1, 1, 8, 8), 1)(given)
    # Means of 2 × 2 px are 2.5, 4.5 / 10.5, 12.5; then of each and its right and lower neighbours.
    torch.testing.assert_close(found, torch.tensor([[[[7.5, 8.5], [11.5, 12.5]]]]))
    torch.testing.assert_close(network(given), torch.tensor([[[[7.5]]]]))


@pytest.mark.parametrize("architecture", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_transformers_have_no_downsamplings_to_drop(architecture: str) -> None:
    encoder = open_encoder("a", f"random:{architecture}:0", IMAGES)
    assert keep_resolution(encoder, 0) is encoder
    with pytest.raises(UserError, match=r"--drop-stages 1: a \(.*has no downsamplings behind its first layers"):
        keep_resolution(encoder, 1)


class Fusing(nn.Module):
    """Adds maps of two ways, one of which is made smaller without a stride."""

    def __init__(self, fits: bool) -> None:
        super().__init__()
        self.fits = fits
        self.first, self.second = nn.Conv2d(1, 2, 2, 2), nn.Conv2d(2, 2, 2, 2)

    def forward(self, given: Tensor) -> Tensor:
        maps: Tensor = self.first(given)
        smaller: Tensor = self.second(maps)
        return nn.functional.adaptive_avg_pool2d(smaller, 4) if self.fits else smaller + maps[:, :, ::2, ::2]


@pytest.mark.parametrize(("fits", "message"), [(False, "does not work without its last 1"), (True, "in other ways")])
def test_networks_shrinking_maps_otherwise_are_refused(fits: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        without_downsamplings(Fusing(fits), torch.zeros(1, 1, 16, 16), 1)
