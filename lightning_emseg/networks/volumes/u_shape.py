"""The frame of the networks of volumes that have skips: encoder, bottom and decoder, whose parts are handed in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_bottom, check_sides
from lightning_emseg.networks.volumes.blocks import Down, transposed
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize, level_factors, level_sizes, stride_of

PATCH: Triple = (8, 256, 256)
"""Patches of the paper, ``(Z, Y, X)`` in voxels."""
WIDTHS = (32, 64, 96, 128, 160)
"""Channels of the paper's four levels and of the bottom."""

Step = Callable[[int, Triple, Triple], nn.Module]
"""Of channels, which stay as they are, factors and ``(Z, Y, X)`` of the output in a patch."""


class NoGate(nn.Module):
    """Skips go over as they are."""

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return ``skip``."""
        return skip


def max_pooled(channels: int, factors: Triple, size: Triple) -> nn.Module:
    """Step down by max pooling."""
    return Down(factors)


def unpooled(channels: int, factors: Triple, size: Triple) -> nn.Module:
    """Step up by a transposed convolution of kernel and stride ``factors``."""
    return transposed(channels, channels, factors)


def nothing(channels: int, size: Triple) -> nn.Module:
    """No further part at the bottom."""
    return nn.Identity()


def no_gate(channels: int, below: int, factors: Triple) -> nn.Module:
    """Skips go over as they are."""
    return NoGate()


@dataclass(frozen=True)
class Parts:
    """What a U-shaped network is made of, as functions that build each part.

    Attributes:
        block: Of channels before and after; from ``(B, before, Z, Y, X)`` to ``(B, after, Z, Y, X)``.
        down: From a level to the one below.
        bottom: Of channels and ``(Z, Y, X)`` in a patch; stands behind the bottom's block.
        up: From a level to the one above.
        gate: Of the channels of a skip, those of the level below and the factors between; from ``(skip, below)`` to
            what is concatenated.
    """

    block: Callable[[int, int], nn.Module]
    down: Step = max_pooled
    bottom: Callable[[int, Triple], nn.Module] = nothing
    up: Step = unpooled
    gate: Callable[[int, int, Triple], nn.Module] = no_gate


class UShape(nn.Module):
    """U-shaped network of volumes.

    A level of the encoder is a block, then a step down; the bottom is a block and what stands behind it; a level of the
    decoder is a step up that keeps the channels, the concatenation with the skip, and a block, as in the 3D U-Net
    (Çiçek et al. 2016). A 1×1×1 convolution makes the logits. Which axes a step halves is
    :func:`~lightning_emseg.networks.volumes.levels.level_factors`'s to say.

    Attributes:
        stride: What Z, Y and X of an input must be multiples of.
        factors: Of the steps, finest first.
    """

    def __init__(
        self,
        parts: Parts,
        in_channels: int,
        maps: int,
        widths: Sequence[int],
        patch: Triple,
        voxel_nm: VoxelSize | None,
    ) -> None:
        """Build the network.

        Args:
            parts: What it is made of.
            in_channels: Channels of the volume.
            maps: Number of logits a voxel.
            widths: Channels of the levels, finest first, and of the bottom.
            patch: ``(Z, Y, X)`` in voxels that it is built for.
            voxel_nm: Size of a voxel, or ``None`` to take voxels for cubes.

        Raises:
            UserError: A number is below 1, there is no level, or ``patch`` cannot be halved as often.
        """
        super().__init__()
        check_widths(in_channels, maps, widths)
        *levels, bottom = widths
        self.factors = level_factors(patch, len(levels), voxel_nm)
        self.stride = stride_of(self.factors)
        sizes = level_sizes(patch, self.factors)
        steps = list(zip(levels, self.factors, sizes, sizes[1:], strict=False))
        self.encoder = nn.ModuleList(map(parts.block, [in_channels, *levels[:-1]], levels))
        self.down = nn.ModuleList(parts.down(width, factors, below) for width, factors, _, below in steps)
        self.bottom = nn.Sequential(parts.block(levels[-1], bottom), parts.bottom(bottom, sizes[-1]))
        self.up, self.gates, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = bottom
        for width, factors, size, _ in reversed(steps):
            self.up.append(parts.up(below, factors, size))
            self.gates.append(parts.gate(width, below, factors))
            self.decoder.append(parts.block(below + width, width))
            below = width
        self.head = nn.Conv3d(below, maps, 1)

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
        check_sides(x, self.stride, type(self).__name__)
        check_bottom(x, self.stride, self)
        skips: list[Tensor] = []
        for block, down in zip(self.encoder, self.down, strict=True):
            skips.append(block(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for up, gate, block in zip(self.up, self.gates, self.decoder, strict=True):
            x = block(torch.cat([gate(skips.pop(), x), up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def check_widths(in_channels: int, maps: int, widths: Sequence[int]) -> None:
    """Refuse numbers that no network can be built of.

    Raises:
        UserError: A number is below 1, or ``widths`` has no level above the bottom.
    """
    if len(widths) < 2 or min(in_channels, maps, *widths) < 1:
        raise UserError(
            f"a network of volumes needs at least one level and the bottom in model.widths, got {list(widths)}, and "
            "channels, maps and widths of at least 1"
        )
