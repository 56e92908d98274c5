"""The 3D U-Net."""

from collections.abc import Sequence

from lightning_emseg.networks.volumes.blocks import double_convolution
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, Parts, UShape


class UNet3D(UShape):
    """3D U-Net (Çiçek et al. 2016) with the blocks and channels of CleftNet (Liu and Ji 2021, sec. IV-F).

    Two convolutions a block, max pooling, transposed convolutions, skips joined by concatenation. Apart from channels
    and the number of levels, it has zero padding (the paper crops its skips), ELU instead of ReLU and a depth that is
    not always halved. MONAI's ``DynUNet`` takes such factors too, but shrinks by strided convolutions, and its
    ``BasicUNet`` always halves.
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
        super().__init__(Parts(double_convolution), in_channels, maps, widths, patch, voxel_nm)
