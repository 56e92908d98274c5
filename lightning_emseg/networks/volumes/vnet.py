"""V-Net."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_emseg.networks.sides import check_bottom, check_sides
from lightning_emseg.networks.volumes.blocks import strided, transposed
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize, level_factors, stride_of
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, check_widths

MOST_CONVOLUTIONS = 3


class VNet(nn.Module):
    """V-Net (Milletari et al. 2016) with the levels and channels of CleftNet (Liu and Ji 2021, sec. IV-F).

    What is V-Net's own stays: 5×5×5 convolutions, 1, 2, 3, 3 of them on the levels and 3 at the bottom, a residual
    connection around each stage, strided and transposed convolutions between levels, PReLU. Other than there, all
    convolutions have batch norm (as in its successors), a stage of the decoder has as many channels as its level, so
    that its residual is the upsampled map alone and not the concatenation, a 1×1×1 convolution widens the image for the
    first residual instead of repeating it, and the depth is not always halved. MONAI's ``VNet`` has fixed channels from
    16 to 256 and halves four times, which a depth of 8 does not take.

    Attributes:
        stride: What Z, Y and X of an input must be multiples of.
    """

    def __init__(
        self,
        in_channels: int = 1,
        maps: int = 1,
        widths: Sequence[int] = WIDTHS,
        patch: Triple = PATCH,
        voxel_nm: VoxelSize | None = None,
    ) -> None:
        """Build the network; arguments and refusals are those of `UShape`."""
        super().__init__()
        check_widths(in_channels, maps, widths)
        factors = level_factors(patch, len(widths) - 1, voxel_nm)
        self.stride = stride_of(factors)
        convolutions = [min(level + 1, MOST_CONVOLUTIONS) for level in range(len(widths))]
        self.widen = nn.Conv3d(in_channels, widths[0], 1)
        self.encoder = nn.ModuleList(
            _Stage(before, width, count)
            for before, width, count in zip([in_channels, *widths[1:]], widths, convolutions, strict=True)
        )
        steps = list(zip(widths, widths[1:], factors, strict=False))
        self.down = nn.ModuleList(_activated(strided(width, below, step), below) for width, below, step in steps)
        self.up = nn.ModuleList(_activated(transposed(below, width, step), width) for width, below, step in steps[::-1])
        self.decoder = nn.ModuleList(
            _Stage(2 * width, width, count) for width, count in list(zip(widths, convolutions, strict=True))[-2::-1]
        )
        self.head = nn.Conv3d(widths[0], maps, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map a volume to logits.

        Args:
            x: Float ``(B, in_channels, Z, Y, X)``, sides multiples of ``stride``.

        Returns:
            ``(B, maps, Z, Y, X)``.

        Raises:
            UserError: A side is no multiple of its stride, ``x`` is no batch of volumes, or one voxel of it is left at
                the bottom while batch norm trains.
        """
        check_sides(x, self.stride, "VNet")
        check_bottom(x, self.stride, self)
        first, *lower = self.encoder
        skips = [first(x, self.widen(x))]
        for down, stage in zip(self.down, lower, strict=True):
            x = down(skips[-1])
            skips.append(stage(x, x))
        x = skips.pop()
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = up(x)
            x = stage(torch.cat([x, skips.pop()], dim=1), x)
        logits: Tensor = self.head(x)
        return logits


class _Stage(nn.Module):
    """Convolutions of a level; a residual is added before the last activation."""

    def __init__(self, before: int, width: int, convolutions: int) -> None:
        super().__init__()
        *inner, last = [before, *[width] * convolutions][:-1]
        self.inner = nn.Sequential(*(_activated(_wide(each, width), width) for each in inner))
        self.last = nn.Sequential(_wide(last, width), nn.BatchNorm3d(width))
        self.activation = nn.PReLU(width)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.activation(self.last(self.inner(x)) + residual)
        return out


def _activated(convolution: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm3d(width), nn.PReLU(width))


def _wide(before: int, after: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, 5, padding=2, bias=False)
