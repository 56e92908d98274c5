"""SegNet in three dimensions."""

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.networks.sides import check_bottom, check_sides
from lightning_emseg.networks.volumes.blocks import convolution, double_convolution
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize, level_factors, stride_of
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, check_widths


class SegNet3D(nn.Module):
    """SegNet (Badrinarayanan et al. 2017) with 3×3×3 convolutions and the levels and channels of CleftNet.

    No maps go over from encoder to decoder, only where each maximum was pooled from; the decoder puts its values there
    and zeros elsewhere. A block ends with as many channels as the pooling has that the next block undoes, so that the
    bottom widens to its channels and narrows again. Two convolutions a block (the paper has up to three, from VGG-16).
    MONAI has no SegNet.

    Attributes:
        stride: What Z, Y and X of an input must be multiples of.
        factors: Of the steps, finest first.
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
            x = block(_put_back(x, *places.pop()))
        logits: Tensor = self.head(x)
        return logits


def _put_back(x: Tensor, maxima: Tensor, size: Sequence[int]) -> Tensor:
    """Undo max pooling, zeros where no maximum was."""
    # As `max_unpool3d`, which torch refuses in deterministic runs, even on CPUs.
    empty = x.new_zeros(*x.shape[:2], prod(size))
    return empty.scatter(2, maxima.flatten(2), x.flatten(2)).reshape(*x.shape[:2], *size)
