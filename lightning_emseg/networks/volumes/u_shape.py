"""U-shaped networks of volumes: halved axes, layers, and the frame of encoder, bottom and decoder.

All have batch norm and ELU with α = 1 (Liu and Ji 2021, sec. IV-B), so that networks differ in their structure alone.
Weights start as torch's layers make them.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_bottom, check_sides

Triple = tuple[int, int, int]
"""Sides ``(Z, Y, X)`` in voxels, or factors between two levels."""
VoxelSize = tuple[float, float, float]
"""Sides ``(Z, Y, X)`` of a voxel in nm."""

AXES = ("depth", "height", "width")
THIN = 2.0
"""Voxels this many times as long as they are wide are not made longer still (as in nnU-Net, Isensee et al. 2021)."""


def level_factors(patch: Triple, levels: int, voxel_nm: VoxelSize | None = None) -> tuple[Triple, ...]:
    """Factors 1 or 2 by which each level of an encoder shrinks Z, Y and X.

    The paper halves every side at every level, which a depth of 8 does not survive four times. The rule here: at each
    level every axis is halved, but the depth stays as it is where it is odd (1 is), and, if ``voxel_nm`` is given, any
    axis stays whose voxels have become at least twice as long as the shortest of the three; it is halved again once
    the others have caught up. For 8 × 256 × 256 the depths are 8, 4, 2, 1, 1; with voxels of 40 × 4 × 4 nm they are
    8, 8, 8, 8, 4.

    Args:
        patch: ``(Z, Y, X)`` of the input in voxels.
        levels: Number of steps down.
        voxel_nm: Size of its voxels; ``None`` takes them for cubes.

    Returns:
        One triple a level, finest first.

    Raises:
        UserError: A side or a voxel size is not positive, or height or width cannot be halved where the rule says so.
    """
    if min(patch) < 1 or min(voxel_nm or (1,)) <= 0:
        raise UserError(f"model.patch {list(patch)} and model.voxel_nm {voxel_nm} must be positive")
    size, voxel = list(patch), list(voxel_nm or (1.0, 1.0, 1.0))
    factors = []
    for _ in range(levels):
        shortest, step = min(voxel), [1, 1, 1]
        for axis, side in enumerate(size):
            if voxel_nm is not None and voxel[axis] >= THIN * shortest:
                continue
            if side % 2 and axis > 0:
                raise UserError(
                    f"model.patch {list(patch)}: a {AXES[axis]} of {patch[axis]} cannot be halved often enough for "
                    f"{levels} levels; choose multiples of {2**levels}"
                )
            step[axis] = 1 if side % 2 else 2
        factors.append((step[0], step[1], step[2]))
        size = [side // factor for side, factor in zip(size, step, strict=True)]
        voxel = [length * factor for length, factor in zip(voxel, step, strict=True)]
    return tuple(factors)


def level_sizes(patch: Triple, factors: Sequence[Triple]) -> tuple[Triple, ...]:
    """List ``(Z, Y, X)`` at the input and after each step down, one more than there are factors."""
    sizes = [patch]
    for step in factors:
        z, y, x = (side // factor for side, factor in zip(sizes[-1], step, strict=True))
        sizes.append((z, y, x))
    return tuple(sizes)


def stride_of(factors: Sequence[Triple]) -> Triple:
    """Multiply the factors of all levels: what Z, Y and X of any input must be multiples of."""
    z, y, x = (prod(along) for along in zip(*factors, strict=True))
    return z, y, x


def convolution(before: int, after: int) -> nn.Sequential:
    """Make a 3×3×3 convolution, batch norm and ELU: ``(B, before, Z, Y, X)`` to ``(B, after, Z, Y, X)``."""
    return nn.Sequential(_unbiased(before, after), nn.BatchNorm3d(after), nn.ELU(inplace=True))


def double_convolution(before: int, after: int) -> nn.Sequential:
    """Make two 3×3×3 convolutions, each with batch norm and ELU: a block of the 3D U-Net."""
    return nn.Sequential(convolution(before, after), convolution(after, after))


class Residual(nn.Module):
    """Residual block whose addition stands after the second batch norm and before the second ELU (He et al. 2015).

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(_unbiased(channels, channels), nn.BatchNorm3d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, Z, Y, X)`` to the same shape."""
        return F.elu(x + self.second(self.first(x)))


def _unbiased(before: int, after: int) -> nn.Conv3d:
    # The batch norm behind it would take a bias away again.
    return nn.Conv3d(before, after, 3, padding=1, bias=False)


PATCH: Triple = (8, 256, 256)
"""Patches of the paper, ``(Z, Y, X)`` in voxels."""
WIDTHS = (32, 64, 96, 128, 160)
"""Channels of the paper's four levels and of the bottom."""

Step = Literal["down", "bottom", "up"]
"""Way from a level to the one below, what stands behind the bottom's block, and the way to the level above."""


class UShape(nn.Module):
    """U-shaped network of volumes; subclasses replace its parts.

    A level of the encoder is a block, then a step down; the bottom is a block and what stands behind it; a level of the
    decoder is a step up that keeps the channels, the concatenation with the skip, and a block, as in the 3D U-Net
    (Çiçek et al. 2016). A 1×1×1 convolution makes the logits. Which axes a step halves is
    :func:`level_factors`'s to say.

    Args:
        in_channels: Channels of the volume.
        maps: Number of logits a voxel.
        widths: Channels of the levels, finest first, and of the bottom.
        patch: Patch ``(Z, Y, X)`` in voxels that it is built for.
        voxel_nm: Size of a voxel, or ``None`` to take voxels for cubes.

    Attributes:
        stride: Multiples that Z, Y and X of an input must be.
        factors: Factors of the steps, finest first.

    Raises:
        UserError: A number is below 1, there is no level, or ``patch`` cannot be halved as often.
    """

    def __init__(
        self,
        in_channels: int = 1,
        maps: int = 1,
        widths: Sequence[int] = WIDTHS,
        patch: Triple = PATCH,
        voxel_nm: VoxelSize | None = None,
    ) -> None:
        super().__init__()
        check_widths(in_channels, maps, widths)
        *levels, bottom = widths
        self.factors = level_factors(patch, len(levels), voxel_nm)
        self.stride = stride_of(self.factors)
        sizes = level_sizes(patch, self.factors)
        steps = list(zip(levels, self.factors, sizes, sizes[1:], strict=False))
        self.encoder = nn.ModuleList(map(self.make_block, [in_channels, *levels[:-1]], levels))
        self.down = nn.ModuleList(self.make_step("down", width, factors, below) for width, factors, _, below in steps)
        behind = self.make_block(levels[-1], bottom), self.make_step("bottom", bottom, (1, 1, 1), sizes[-1])
        self.bottom = nn.Sequential(*behind)
        self.up, self.gates, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = bottom
        for width, factors, size, _ in reversed(steps):
            self.up.append(self.make_step("up", below, factors, size))
            gate = self.make_gate(width, below, factors)
            if gate is not None:
                self.gates.append(gate)
            self.decoder.append(self.make_block(below + width, width))
            below = width
        self.head = nn.Conv3d(below, maps, 1)

    def make_block(self, before: int, after: int) -> nn.Module:
        """Make a block of CleftNet (Liu and Ji 2021, sec. IV-B): a convolution and a residual block.

        Args:
            before: Channels of its input ``(B, before, Z, Y, X)``.
            after: Channels of its output ``(B, after, Z, Y, X)``.
        """
        return nn.Sequential(convolution(before, after), Residual(after))

    def make_step(self, step: Step, channels: int, factors: Triple, size: Triple) -> nn.Module:
        """Make max pooling, nothing at the bottom, or a transposed convolution of kernel and stride ``factors``.

        Args:
            step: Place in the network.
            channels: Channels of input and output.
            factors: Factors between the two levels.
            size: Sides ``(Z, Y, X)`` of the output in a patch.
        """
        if step == "down":
            return nn.MaxPool3d(factors)
        if step == "bottom":
            return nn.Identity()
        return nn.ConvTranspose3d(channels, channels, factors, stride=factors)

    def make_gate(self, channels: int, below: int, factors: Triple) -> nn.Module | None:
        """Make what a skip passes, from ``(skip, below)`` to what is concatenated; ``None`` for the skip itself.

        Args:
            channels: Channels of the skip.
            below: Channels of the level below.
            factors: Factors between the two.
        """
        return None

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
        for level, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            skip = skips.pop()
            gated = self.gates[level](skip, x) if self.gates else skip
            x = block(torch.cat([gated, up(x)], dim=1))
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
