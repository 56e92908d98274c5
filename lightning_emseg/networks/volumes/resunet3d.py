"""The residual 3D U-Net."""

from collections.abc import Sequence

from lightning_emseg.networks.volumes.blocks import residual_block
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS, Parts, UShape


class ResUNet3D(UShape):
    """ResUnet as CleftNet's backbone (Liu and Ji 2021, secs. IV-B and IV-G; after Zhang et al. 2018).

    The 3D U-Net whose second convolution in each block is a residual block; "if we remove both the FAs and LAs then
    CleftNet would simply become ResUnet". MONAI's ``UNet`` and ``DynUNet`` have residual blocks that stride, and others
    inside, so none would be the network without its augmentors.
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
        super().__init__(Parts(residual_block), in_channels, maps, widths, patch, voxel_nm)
