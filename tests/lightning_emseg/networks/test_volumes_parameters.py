"""Weights of the networks of volumes, counted by hand from the sizes of the paper."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import nn

from lightning_emseg.networks.volumes import AttnUNet3D, CleftNet, ResUNet3D, SegNet3D, UNet3D, VNet
from lightning_emseg.networks.volumes.cleftnet import FeatureAugmentor

PAPER = (32, 64, 96, 128, 160)


def convolution(before: int, after: int, kernel: int = 3) -> int:
    """Weights, and scale and shift of the batch norm."""
    return kernel**3 * before * after + 2 * after


def double(before: int, after: int) -> int:
    return convolution(before, after) + convolution(after, after)


def residual(before: int, after: int) -> int:
    return convolution(before, after) + 2 * convolution(after, after)


def u_shape(block: Callable[[int, int], int], ups: Sequence[int], maps: int) -> int:
    """Blocks and head of a network with skips, and what is given for the steps up."""
    total = block(1, 32) + block(32, 64) + block(64, 96) + block(96, 128) + block(128, 160)
    total += block(160 + 128, 128) + block(128 + 96, 96) + block(96 + 64, 64) + block(64 + 32, 32)
    return total + sum(ups) + 32 * maps + maps


BOXES = (4, 8, 8, 8)
"""Voxels in a box of each step up, the lowest first: of a depth of 8, 1 × 2 × 2, then 2 × 2 × 2."""
DECONVOLUTIONS = [width * width * box + width for width, box in zip((160, 128, 96, 64), BOXES, strict=True)]


def gate(channels: int, below: int, box: int) -> int:
    hidden = channels // 2
    return channels * hidden * box + below * hidden + hidden + hidden + 1 + channels * channels + 2 * channels


def augmentor(channels: int, depth: int, side: int) -> int:
    return 3 * channels**2 + channels + channels * depth * side * side


def vnet() -> int:
    def stage(before: int, width: int, count: int) -> int:
        total = convolution(before, width, 5) + (count - 1) * convolution(width, width, 5)
        return total + count * width  # a PReLU after each

    total = 32 + 32 + stage(1, 32, 1) + stage(64, 64, 2) + stage(96, 96, 3) + stage(128, 128, 3) + stage(160, 160, 3)
    total += stage(256, 128, 3) + stage(192, 96, 3) + stage(128, 64, 2) + stage(64, 32, 1)
    for above, below, box in zip(PAPER, PAPER[1:], BOXES[::-1], strict=False):
        total += above * below * box + below + 3 * below  # down: convolution, batch norm, PReLU
        total += above * below * box + above + 3 * above
    return total + 32 + 1


def segnet() -> int:
    total = double(1, 32) + double(32, 64) + double(64, 96) + double(96, 128)
    total += convolution(128, 160) + convolution(160, 128)
    for width, after in ((128, 96), (96, 64), (64, 32), (32, 32)):
        total += convolution(width, width) + convolution(width, after)
    return total + 32 + 1


def cleftnet() -> int:
    down = augmentor(32, 4, 128) + augmentor(64, 2, 64) + augmentor(96, 1, 32) + augmentor(128, 1, 16)
    up = [augmentor(160, 1, 32), augmentor(128, 2, 64), augmentor(96, 4, 128), augmentor(64, 8, 256)]
    return down + augmentor(160, 1, 16) + u_shape(residual, up, 2)


GATES = [gate(*each) for each in zip((128, 96, 64, 32), (160, 128, 96, 64), BOXES, strict=True)]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (UNet3D, u_shape(double, DECONVOLUTIONS, 1)),
        (ResUNet3D, u_shape(residual, DECONVOLUTIONS, 1)),
        (AttnUNet3D, u_shape(residual, [*DECONVOLUTIONS, *GATES], 1)),
        (VNet, vnet()),
        (SegNet3D, segnet()),
        (CleftNet, cleftnet()),
        (partial(CleftNet, attention="none"), u_shape(residual, DECONVOLUTIONS, 2)),
    ],
)
def test_parameters_of_the_paper_by_hand(build: Callable[[], nn.Module], expected: int) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(weight.numel() for weight in network.parameters()) == expected


def test_nine_augmentors_of_the_paper() -> None:
    with torch.device("meta"):
        network = CleftNet()
        augmentors = [each for each in network.modules() if isinstance(each, FeatureAugmentor)]
        assert [each.keys.in_channels for each in augmentors] == [32, 64, 96, 128, 160, 160, 128, 96, 64]
        sizes = [tuple(weight.shape[2:]) for key, weight in network.named_parameters() if "queries" in key]
    # The first: 4 · 128 · 128 = 65,536 queries to 8 · 256 · 256 = 524,288 keys.
    assert sizes[:4] == [(4, 128, 128), (2, 64, 64), (1, 32, 32), (1, 16, 16)]
    assert sizes[4:] == [(1, 16, 16), (1, 32, 32), (2, 64, 64), (4, 128, 128), (8, 256, 256)]
