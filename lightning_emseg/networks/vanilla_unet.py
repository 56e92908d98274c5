"""The U-Net of the original paper, with padding that keeps the size."""

import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_sides


class VanillaUNet(nn.Module):
    """U-Net without a borrowed encoder (Ronneberger et al. 2015); the published U-RISC code trains it with BCE.

    Two 3×3 convolutions with ReLU a level, 2×2 max pooling down, 2×2 transposed convolution up, skips joined by
    concatenation, a 1×1 convolution at the end: 23 convolutions at depth 4. It differs from the paper in two points:
    zero padding keeps the size (the paper loses 92 px a side and crops the skips), and batch norm is there by default
    (without it, training from scratch depends on a lucky initialisation).

    Attributes:
        stride: ``2 ** depth``, what the sides of the input must be multiples of.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        base_channels: int = 64,
        depth: int = 4,
        batch_norm: bool = True,
    ) -> None:
        """Build the network with He-normal weights (the paper's Gaussian of variance 2/N, sec. 3).

        Args:
            in_channels: Channels of the image.
            classes: Number of maps.
            base_channels: Channels of the first level; every level below has twice as many.
            depth: Number of halvings, at least 1.
            batch_norm: Batch norm after every 3×3 convolution; ``False`` is the paper's network.

        Raises:
            UserError: A number is below 1.
        """
        super().__init__()
        if min(in_channels, classes, base_channels, depth) < 1:
            raise UserError("VanillaUNet: in_channels, classes, base_channels and depth must be at least 1")
        self.stride = 2**depth
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _double_convolution(before, width, batch_norm)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1])
        self.up = nn.ModuleList(_double_convolution(2 * width, width, batch_norm) for width in widths[-2::-1])
        self.head = nn.Conv2d(base_channels, classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image to logits.

        Args:
            x: Float ``(B, in_channels, Y, X)``, sides multiples of ``stride``.

        Returns:
            ``(B, classes, Y, X)``.

        Raises:
            UserError: A side is no multiple of ``stride``.
        """
        check_sides(x, self.stride, "VanillaUNet")
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat([skips.pop(), grow(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double_convolution(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers.append(nn.Conv2d(width, after, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
