"""Networks of volumes that CleftNet is compared with."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.networks.sides import check_bottom, check_sides
from lightning_emseg.networks.volumes.u_shape import (
    PATCH,
    WIDTHS,
    Triple,
    UShape,
    VoxelSize,
    check_widths,
    convolution,
    double_convolution,
    level_factors,
    stride_of,
)


class UNet3D(UShape):
    """3D U-Net (Çiçek et al. 2016) with the blocks and channels of CleftNet (Liu and Ji 2021, sec. IV-F).

    Two convolutions a block, max pooling, transposed convolutions, skips joined by concatenation. Apart from channels
    and the number of levels, it has zero padding (the paper crops its skips), ELU instead of ReLU and a depth that is
    not always halved. MONAI's ``DynUNet`` takes such factors too, but shrinks by strided convolutions, and its
    ``BasicUNet`` always halves.
    """

    def make_block(self, before: int, after: int) -> nn.Module:
        """Make two convolutions."""
        return double_convolution(before, after)


class ResUNet3D(UShape):
    """ResUnet as CleftNet's backbone (Liu and Ji 2021, secs. IV-B and IV-G; after Zhang et al. 2018).

    The 3D U-Net whose second convolution in each block is a residual block; "if we remove both the FAs and LAs then
    CleftNet would simply become ResUnet". MONAI's ``UNet`` and ``DynUNet`` have residual blocks that stride, and others
    inside, so none would be the network without its augmentors.
    """


class AttentionGate(nn.Module):
    """Additive attention gate in a grid (Oktay et al. 2018, eqs. 1–2, and their published code).

    The skip is brought to the grid of the level below by a convolution with the level's factors, added to a 1×1×1
    convolution of that level, and a ReLU, a 1×1×1 convolution to one map and a sigmoid make weights between 0 and 1,
    which are interpolated back and multiply the skip. A 1×1×1 convolution with batch norm follows, as in their code.

    Args:
        channels: Channels of the skip.
        below: Channels of the level below, the gating signal.
        factors: Factors between the two levels.
    """

    def __init__(self, channels: int, below: int, factors: Triple) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.of_skip = nn.Conv3d(channels, hidden, factors, stride=factors, bias=False)
        self.of_below = nn.Conv3d(below, hidden, 1)
        self.to_weight = nn.Conv3d(hidden, 1, 1)
        self.out = nn.Sequential(nn.Conv3d(channels, channels, 1, bias=False), nn.BatchNorm3d(channels))

    def weights(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return weights 0–1, ``(B, 1, Z, Y, X)`` of the skip's size.

        Args:
            skip: ``(B, channels, Z, Y, X)``.
            below: ``(B, below, Z/f, Y/f, X/f)``.
        """
        coarse = torch.sigmoid(self.to_weight(F.relu(self.of_skip(skip) + self.of_below(below))))
        return F.interpolate(coarse, skip.shape[2:], mode="trilinear", align_corners=False)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return the weighted skip, of its own shape."""
        gated: Tensor = self.out(self.weights(skip, below) * skip)
        return gated


class AttnUNet3D(UShape):
    """AttnUnet: "CleftNet without LA" with attention units in place of the FA (Liu and Ji 2021, sec. IV-G).

    So: `ResUNet3D` whose skips pass an attention gate; the gating signal is the level below itself, without the
    further convolution of Oktay et al. MONAI's ``AttentionUnet`` gates after upsampling, has no residual blocks, and
    shrinks by strided convolutions.
    """

    def make_gate(self, channels: int, below: int, factors: Triple) -> nn.Module:
        """Make an attention gate."""
        return AttentionGate(channels, below, factors)


class VNet(nn.Module):
    """V-Net (Milletari et al. 2016) with the levels and channels of CleftNet (Liu and Ji 2021, sec. IV-F).

    What is V-Net's own stays: 5×5×5 convolutions, 1, 2, 3, 3 of them on the levels and 3 at the bottom, a residual
    connection around each stage, strided and transposed convolutions between levels, PReLU. Other than there, all
    convolutions have batch norm (as in its successors), a stage of the decoder has as many channels as its level, so
    that its residual is the upsampled map alone and not the concatenation, a 1×1×1 convolution widens the image for the
    first residual instead of repeating it, and the depth is not always halved. MONAI's ``VNet`` has fixed channels from
    16 to 256 and halves four times, which a depth of 8 does not take.

    Attributes:
        stride: Multiples that Z, Y and X of an input must be.
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
        convolutions = [min(level + 1, 3) for level in range(len(widths))]
        self.widen = nn.Conv3d(in_channels, widths[0], 1)
        self.encoder = nn.ModuleList(
            _Stage(before, width, count)
            for before, width, count in zip([in_channels, *widths[1:]], widths, convolutions, strict=True)
        )
        steps = list(zip(widths, widths[1:], factors, strict=False))
        self.down = nn.ModuleList(
            _activated(nn.Conv3d(width, below, step, stride=step), below) for width, below, step in steps
        )
        self.up = nn.ModuleList(
            _activated(nn.ConvTranspose3d(below, width, step, stride=step), width) for width, below, step in steps[::-1]
        )
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
        self.inner = nn.Sequential(
            *(_activated(nn.Conv3d(each, width, 5, padding=2, bias=False), width) for each in inner)
        )
        self.last = nn.Sequential(nn.Conv3d(last, width, 5, padding=2, bias=False), nn.BatchNorm3d(width))
        self.activation = nn.PReLU(width)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.activation(self.last(self.inner(x)) + residual)
        return out


def _activated(convolution: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm3d(width), nn.PReLU(width))


class SegNet3D(nn.Module):
    """SegNet (Badrinarayanan et al. 2017) with 3×3×3 convolutions and the levels and channels of CleftNet.

    No maps go over from encoder to decoder, only where each maximum was pooled from; the decoder puts its values there
    and zeros elsewhere. A block ends with as many channels as the pooling has that the next block undoes, so that the
    bottom widens to its channels and narrows again. Two convolutions a block (the paper has up to three, from VGG-16).
    MONAI has no SegNet.

    Attributes:
        stride: Multiples that Z, Y and X of an input must be.
        factors: Factors of the steps, finest first.
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
        *levels, bottom = widths
        self.factors = level_factors(patch, len(levels), voxel_nm)
        self.stride = stride_of(self.factors)
        self.encoder = nn.ModuleList(map(double_convolution, [in_channels, *levels[:-1]], levels))
        self.bottom = nn.Sequential(convolution(levels[-1], bottom), convolution(bottom, levels[-1]))
        narrower = [levels[0], *levels[:-1]]
        self.decoder = nn.ModuleList(
            nn.Sequential(convolution(width, width), convolution(width, after))
            for width, after in zip(levels[::-1], narrower[::-1], strict=True)
        )
        self.head = nn.Conv3d(levels[0], maps, 1)

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
        check_sides(x, self.stride, "SegNet3D")
        check_bottom(x, self.stride, self)
        places = []
        for block, factors in zip(self.encoder, self.factors, strict=True):
            x = block(x)
            size = x.shape[2:]
            x, maxima = F.max_pool3d(x, factors, return_indices=True)
            places.append((maxima, size))
        x = self.bottom(x)
        for block in self.decoder:
            maxima, size = places.pop()
            # As `max_unpool3d`, which torch refuses in deterministic runs, even on CPUs.
            empty = x.new_zeros(*x.shape[:2], prod(size))
            x = block(empty.scatter(2, maxima.flatten(2), x.flatten(2)).reshape(*x.shape[:2], *size))
        logits: Tensor = self.head(x)
        return logits
