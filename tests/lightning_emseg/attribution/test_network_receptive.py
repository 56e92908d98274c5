"""Receptive radii against those that are known by hand, and against gradients of every pixel."""

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_emseg.attribution.network import box_around, detached_copy, receptive_radius
from lightning_emseg.networks.casenet import CASENet
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from lightning_emseg.networks.volumes import CleftNet
from lightning_emseg.networks.wrappers import MultiScaleInput
from tests.support.global_networks import Gated


class Resized(nn.Module):
    """The smaller image, brought back to full size."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, window: Tensor) -> Tensor:
        small = F.avg_pool2d(window, self.factor)
        large: Tensor = F.interpolate(small, window.shape[2:], mode="bilinear")
        return large


# Stride, and by hand the distance to the furthest input pixel, over all positions within a cell.
KNOWN: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "one pixel": (lambda: nn.Conv2d(1, 1, 1), 1, 0),
    "one kernel": (lambda: nn.Conv2d(1, 1, 5, padding=2), 1, 2),
    "a stack": (lambda: nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(4))), 1, 4),
    "dilated": (lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=4, dilation=4), nn.Conv2d(1, 1, 3, padding=1)), 1, 5),
    # Output 2i and 2i + 1 see input 2i − 1 … 2i + 1: two pixels away from 2i + 1.
    "strided and transposed": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.ConvTranspose2d(1, 1, 2, stride=2)),
        2,
        2,
    ),
    # A cell of 4 px sees itself and nothing else.
    "pooling": (lambda: nn.Sequential(nn.MaxPool2d(4), nn.ConvTranspose2d(1, 1, 4, stride=4)), 4, 3),
    # Cells of 4 px and one cell further: from the first pixel of one to the last of the next.
    "pooling and a kernel": (
        lambda: nn.Sequential(
            nn.MaxPool2d(4), nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(inplace=True), nn.ConvTranspose2d(1, 1, 4, stride=4)
        ),
        4,
        7,
    ),
    # Pixel 2 of a cell, right of its centre, sees the next cell too, which ends with pixel 7.
    "bilinear": (lambda: Resized(4), 4, 5),
}


def true_reach(network: nn.Module, side: int, stride: int) -> int:
    """Furthest input pixel with a gradient, over the outputs of the cells in the middle of a window."""
    torch.manual_seed(1)
    window = torch.rand(1, 1, side, side, requires_grad=True)
    answer = network(window)
    middle = side // 2 // stride * stride
    furthest = 0
    for y in range(middle, middle + stride):
        for x in range(middle, middle + stride):
            (gradient,) = torch.autograd.grad(answer[0, 0, y, x], window, retain_graph=True)
            seen = gradient[0, 0].nonzero()
            furthest = max(furthest, int((seen - torch.tensor([y, x])).abs().max()))
    return furthest


def positive(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in which nothing cancels and every unit is open."""
    network = build().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_().add_(0.01)
    return network


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("declared", ["own stride", "none"])
def test_radii_match_hand_computed_ones(name: str, declared: str) -> None:
    build, stride, true = KNOWN[name]
    network = positive(build)
    if not isinstance(network[0] if isinstance(network, nn.Sequential) else network, nn.MaxPool2d):
        assert true_reach(network, 64, stride) == true
    # Networks that pad inside, as CASENet does, take any side and name no stride.
    told = stride if declared == "own stride" else 1
    radius = receptive_radius(network, (64, 96), 1, told)
    assert radius is not None
    assert true <= min(radius)
    assert max(radius) <= true + told


@pytest.mark.parametrize("depth", [1, 2])
def test_unet_radii_hold_at_every_position(depth: int) -> None:
    network = positive(lambda: VanillaUNet(base_channels=2, depth=depth, batch_norm=False))
    stride = 2**depth
    radius = receptive_radius(network, (96, 96), 1, stride)
    assert radius is not None
    # Max pooling passes a gradient to one pixel only: by the random window, less than what can have influence.
    lower = true_reach(network, 96, stride)
    # Two convolutions a level, on the way down and up, at the scale of the level; then all of a cell.
    upper = sum(2**level * (2 if level == depth else 4) for level in range(depth + 1)) + stride - 1
    assert lower <= min(radius)
    assert max(radius) <= upper + stride


def test_each_axis_has_its_own_radius() -> None:
    network = nn.Conv3d(3, 1, (1, 3, 7), padding=(0, 1, 3))
    assert receptive_radius(network, (8, 16, 24), 3, 1) == (1, 2, 4)


GLOBAL: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "gate": (Gated, 1),
    "scSE": (
        lambda: smp.Unet(
            "resnet18", 3, None, decoder_channels=(16, 16, 16), in_channels=1, decoder_attention_type="scse"
        ),
        8,
    ),
    "layer norm": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.GroupNorm(1, 2), nn.Conv2d(2, 1, 1)), 1),
    "larger than the window": (lambda: VanillaUNet(base_channels=2, depth=4), 16),
    "sides of a residual network": (lambda: CASENet("resnet18"), 1),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_global_networks_have_no_radius(name: str) -> None:
    build, stride = GLOBAL[name]
    assert receptive_radius(build().eval(), (64, 64), 1, stride) is None


@pytest.mark.parametrize(("shape", "stride"), [((32, 64), 32), ((1, 64), 1), ((64, 4), 4)])
def test_sides_without_middle_have_no_radius(shape: tuple[int, int], stride: int) -> None:
    assert receptive_radius(nn.Conv2d(1, 1, 3, padding=1), shape, 1, stride) is None


def test_multiscale_radius_covers_the_gradient() -> None:
    inner = positive(lambda: VanillaUNet(base_channels=2, depth=1, batch_norm=False))
    network = MultiScaleInput(inner, (0.5, 1.0), stride=2).eval()
    radius = receptive_radius(network, (128, 128), 1, 2)
    assert radius is not None
    assert true_reach(network, 128, 4) <= min(radius)


def test_measuring_leaves_network_and_state_unchanged() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)).eval()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    random = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert receptive_radius(network, (32, 32), 1, 1) == (2, 2)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


@given(data=st.data(), axes=st.integers(1, 3))
def test_boxes_are_the_smallest_aligned_cover(data: st.DataObject, axes: int) -> None:
    stride = data.draw(st.integers(1, 8))
    shape = data.draw(st.tuples(*[st.integers(1, 60)] * axes))
    pixel = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
    radius = data.draw(st.tuples(*[st.integers(0, 70)] * axes))
    for part, at, reach, side in zip(box_around(pixel, radius, shape, stride), pixel, radius, shape, strict=True):
        near = [place for place in range(side) if abs(place - at) <= reach]
        assert set(near) <= set(range(part.start, part.stop)) <= set(range(side))
        assert part.start % stride == 0
        assert part.stop % stride == 0 or part.stop == side
        # Not a cell more than needed.
        assert near[0] - part.start < stride
        assert part.stop - 1 - near[-1] < stride


@pytest.mark.parametrize("attention", ["augmentor", "self"])
def test_global_attention_has_no_radius(attention: str) -> None:
    network = CleftNet(patch=(4, 16, 16), widths=(8, 8), attention=attention)  # type: ignore[arg-type]
    assert receptive_radius(detached_copy(network, 127.5, 127.5), (4, 16, 16), 1, network.stride) is None


def test_few_sections_are_taken_whole() -> None:
    network = nn.Conv3d(1, 1, (7, 5, 3), padding=(3, 2, 1))
    # Three sections on each side: more than half of six.
    assert receptive_radius(network, (6, 32, 40), 1, 1) == (6, 3, 2)
    assert receptive_radius(network, (1, 32, 40), 1, 1) == (1, 3, 2)
    # A plane that is crossed is crossed.
    assert receptive_radius(network, (16, 4, 40), 1, 1) is None
