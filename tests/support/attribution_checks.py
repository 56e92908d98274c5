"""Windows, networks and fields that tests of attribution share."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_modules.geometry import Shape
from lightning_emseg.attribution.fields import IntegrationPath, cuts_are_safe, exact_fields, exact_groups
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.network import PixelOutput


def lattice(shape: Sequence[int], step: Sequence[int], offset: Sequence[int]) -> list[Shape]:
    """Pixels of a regular grid in C order."""
    return list(itertools.product(*(range(a, side, b) for a, side, b in zip(offset, shape, step, strict=True))))


def windows(*shape: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    return torch.rand(shape) * 255, torch.rand(shape) * 255


def settled(network: nn.Module, side: int = 64) -> nn.Module:
    """A network in evaluation mode whose batch norms have seen noise."""
    torch.manual_seed(5)
    for module in network.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 1, side, side) * 255)
    return network.eval()


def bias_free(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        shared := nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(4, 3, 3, padding=1, bias=False),
        shared,
        nn.Conv2d(3, 1, 1, bias=False),
    ).eval()


def fields_of(
    answers: PixelOutput,
    image: Tensor,
    baseline: Tensor,
    pixels: Sequence[Shape],
    path: IntegrationPath,
    radius: Shape | None = None,
    stride: int | Sequence[int] = 1,
) -> list[Field]:
    """Exact fields of all pixels of a window, in the groups that are the least work."""
    cuts = radius is not None and cuts_are_safe(answers.network, image.shape, radius, stride)
    together = exact_groups(pixels, image.shape[1:], radius, stride, cuts)
    return exact_fields(answers, image, baseline, pixels, together, path, radius, stride, cuts)
