"""Layers that the networks of volumes share: convolutions, residual blocks, and ways from one level to the next.

All have batch norm and ELU with α = 1 (Liu and Ji 2021, sec. IV-B), so that networks differ in their structure alone.
Weights start as torch's layers make them.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.networks.volumes.levels import Triple


def convolution(before: int, after: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ELU: ``(B, before, Z, Y, X)`` to ``(B, after, Z, Y, X)``."""
    return nn.Sequential(_plain(before, after, kernel), nn.BatchNorm3d(after), nn.ELU(inplace=True))


def double_convolution(before: int, after: int) -> nn.Sequential:
    """Two 3×3×3 convolutions, each with batch norm and ELU: a block of the 3D U-Net."""
    return nn.Sequential(convolution(before, after), convolution(after, after))


def residual_block(before: int, after: int) -> nn.Sequential:
    """A convolution block and a residual one: a block of CleftNet (Liu and Ji 2021, sec. IV-B), three convolutions."""
    return nn.Sequential(convolution(before, after), Residual(after))


class Residual(nn.Module):
    """Residual block whose addition stands after the second batch norm and before the second ELU (He et al. 2015).

    Args:
        channels: In and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(_plain(channels, channels, 3), nn.BatchNorm3d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, Z, Y, X)`` to the same shape."""
        return F.elu(x + self.second(self.first(x)))


class Down(nn.Module):
    """Max pooling by the factors of a level.

    Args:
        factors: Of Z, Y and X, 1 or more.
    """

    def __init__(self, factors: Triple) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, Z, Y, X)`` to ``(B, C, Z/f, Y/f, X/f)``."""
        return F.max_pool3d(x, self.factors)


class Up(nn.Module):
    """Trilinear interpolation by the factors of a level, with half-pixel centres.

    Args:
        factors: Of Z, Y and X, 1 or more.
    """

    def __init__(self, factors: Triple) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, Z, Y, X)`` to ``(B, C, f·Z, f·Y, f·X)``."""
        size = [side * factor for side, factor in zip(x.shape[2:], self.factors, strict=True)]
        return F.interpolate(x, size, mode="trilinear", align_corners=False)


def strided(before: int, after: int, factors: Triple) -> nn.Conv3d:
    """Convolution whose kernel and stride are the factors: every voxel out sees its own box of voxels in."""
    return nn.Conv3d(before, after, factors, stride=factors)


def transposed(before: int, after: int, factors: Triple) -> nn.ConvTranspose3d:
    """Transposed convolution whose kernel and stride are the factors: every voxel in fills its own box."""
    return nn.ConvTranspose3d(before, after, factors, stride=factors)


def _plain(before: int, after: int, kernel: int) -> nn.Conv3d:
    # Without a bias, which the batch norm behind it would take away again.
    return nn.Conv3d(before, after, kernel, padding=kernel // 2, bias=False)
