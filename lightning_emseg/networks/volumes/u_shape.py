"""U-shaped networks of volumes: halved axes, layers, and the frame of encoder, bottom and decoder.

All have batch norm and ELU with α = 1 (Liu and Ji 2021, sec. IV-B), so that networks differ in their structure alone.
Weights start as torch's layers make them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_bottom, check_sides

Triple = tuple[int, int, int]
"""Of Z, Y and X: sides in voxels, or factors between two levels."""
VoxelSize = tuple[float, float, float]
"""Of Z, Y and X, in nm."""

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
        shortest = min(voxel)
        wanted = [voxel_nm is None or length < THIN * shortest for length in voxel]
        z, y, x = (_factor(axis, size[axis], patch, levels) if wanted[axis] else 1 for axis in range(3))
        factors.append((z, y, x))
        for axis, factor in enumerate((z, y, x)):
            size[axis] //= factor
            voxel[axis] *= factor
    return tuple(factors)


def _factor(axis: int, side: int, patch: Triple, levels: int) -> int:
    if side % 2 == 0:
        return 2
    if axis == 0:
        return 1
    raise UserError(
        f"model.patch {list(patch)}: a {AXES[axis]} of {patch[axis]} cannot be halved often enough for {levels} "
        f"levels; choose multiples of {2**levels}"
    )


def level_sizes(patch: Triple, factors: Sequence[Triple]) -> tuple[Triple, ...]:
    """``(Z, Y, X)`` at the input and after each step down, one more than there are factors."""
    sizes = [patch]
    for step in factors:
        z, y, x = (side // factor for side, factor in zip(sizes[-1], step, strict=True))
        sizes.append((z, y, x))
    return tuple(sizes)


def stride_of(factors: Sequence[Triple]) -> Triple:
    """What Z, Y and X of any input must be multiples of: the products of the factors."""
    z = y = x = 1
    for step in factors:
        z, y, x = z * step[0], y * step[1], x * step[2]
    return z, y, x


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
    :func:`~lightning_emseg.networks.volumes.u_shape.level_factors`'s to say.

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
