"""Which axes of a volume are halved at which level of a network: pure arithmetic."""

from collections.abc import Sequence

from data_modules.errors import UserError

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
