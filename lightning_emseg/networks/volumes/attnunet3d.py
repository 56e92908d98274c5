"""The residual 3D U-Net with attention gates on its skips."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.networks.volumes.blocks import residual_block
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, Parts, UShape


class AttentionGate(nn.Module):
    """Additive attention gate in a grid (Oktay et al. 2018, eqs. 1–2, and their published code).

    The skip is brought to the grid of the level below by a convolution with the level's factors, added to a 1×1×1
    convolution of that level, and a ReLU, a 1×1×1 convolution to one map and a sigmoid make weights between 0 and 1,
    which are interpolated back and multiply the skip. A 1×1×1 convolution with batch norm follows, as in their code.

    Args:
        channels: Of the skip.
        below: Channels of the level below, the gating signal.
        factors: Between the two levels.
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

    def __init__(
        self,
        in_channels: int = 1,
        maps: int = 1,
        widths: Sequence[int] = WIDTHS,
        patch: Triple = PATCH,
        voxel_nm: VoxelSize | None = None,
    ) -> None:
        """Build the network; see `UShape` for the arguments and what is refused."""
        parts = Parts(residual_block, gate=AttentionGate)
        super().__init__(parts, in_channels, maps, widths, patch, voxel_nm)
