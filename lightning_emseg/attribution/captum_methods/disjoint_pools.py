"""Max pooling whose windows do not overlap, in place of one whose windows do."""

import torch.nn.functional as F
from torch import Tensor, finfo, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum_methods.rewrite import leaves, replace

Pool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
_AXES: dict[type[nn.Module], int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}


def separate_windows(network: nn.Module) -> None:
    """Lay the windows of all overlapping max pools of a network side by side before they are pooled.

    The answers stay the same to the bit. captum's rule for max pooling (DeepLIFT: the change of a maximum belongs to
    the input that attains it) sends the change back with ``max_unpool``, which keeps only one share where an input is
    the maximum of several windows, as in the 3×3 pooling with stride 2 of every ResNet; between disjoint windows
    there is nothing to drop.

    Args:
        network: Changed.

    Raises:
        UserError: if an overlapping pool is dilated or rounds its size up.
    """
    pools = [leaf for leaf in leaves(network) if isinstance(leaf, Pool) and _overlaps(leaf)]
    replace(network, {pool: _disjoint(pool) for pool in pools})


class _Windows(nn.Module):
    """Windows of an image laid side by side: ``(B, C, *S)`` to ``(B, C, *(n·k))`` for n windows of k px an axis."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, image: Tensor) -> Tensor:
        # Infinity would give NaN as difference between input and baseline.
        around = [side for side in reversed(self.padding) for _ in range(2)]
        windows = F.pad(image, around, value=finfo(image.dtype).min)
        rank = len(self.kernel)
        for axis in range(rank):
            windows = windows.unfold(2 + axis, self.kernel[axis], self.stride[axis])
        counts = windows.shape[2 : 2 + rank]
        paired = [place for axis in range(rank) for place in (2 + axis, 2 + rank + axis)]
        sides = [count * side for count, side in zip(counts, self.kernel, strict=True)]
        return windows.permute(0, 1, *paired).reshape(*image.shape[:2], *sides)


def _disjoint(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> nn.Module:
    kernel, stride, padding, dilation = _sizes(pool)
    if set(dilation) != {1} or pool.ceil_mode or pool.return_indices:
        raise UserError(
            f"DeepLift: {pool} overlaps and is dilated, rounds up or returns indices, which captum's rule for max "
            "pooling gets wrong: take InputXGradient or IntegratedGradients"
        )
    return nn.Sequential(_Windows(kernel, stride, padding), type(pool)(kernel, kernel))


def _overlaps(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> bool:
    kernel, stride, _, dilation = _sizes(pool)
    reach = [(size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True)]
    return any(size > step for size, step in zip(reach, stride, strict=True))


def _sizes(pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d) -> list[tuple[int, ...]]:
    axes = _AXES[type(pool)]
    given = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return [(value,) * axes if isinstance(value, int) else tuple(value) for value in given]
