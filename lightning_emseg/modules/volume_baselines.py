"""The networks of volumes that CleftNet is compared with (Liu and Ji 2021, sec. IV-F), at its channels and levels."""

from typing import Any, ClassVar

from lightning_emseg.modules.mixin import SegmentationMixin, count_maps
from lightning_emseg.networks import volumes
from lightning_emseg.networks.volumes.u_shape import PATCH, WIDTHS

Network = volumes.UNet3D | volumes.ResUNet3D | volumes.AttnUNet3D | volumes.VNet | volumes.SegNet3D


class VolumeBaseline(SegmentationMixin):
    """What these have in common.

    Attributes:
        architecture: Class of the network.

    Args:
        patch: ``(Z, Y, X)`` of ``data.patch_size``, from which follows which axes each level halves.
        voxel_nm: ``(Z, Y, X)`` of a voxel, so that long axes are halved later; voxels pass for cubes without.
        widths: Channels of the levels, finest first, and of the bottom.
        in_channels: Channels of the volumes.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        kwargs: See :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    network_axes = 3
    architecture: ClassVar[type[Network]]

    def __init__(
        self,
        patch: tuple[int, int, int] = PATCH,
        voxel_nm: tuple[float, float, float] | None = None,
        widths: tuple[int, ...] = WIDTHS,
        in_channels: int = 1,
        classes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        network = self.architecture(in_channels, count_maps(classes), widths, patch, voxel_nm)
        super().__init__(network, in_channels=in_channels, stride=max(network.stride[1:]), classes=classes, **kwargs)


class UNet3D(VolumeBaseline):
    """3D U-Net (Çiçek et al. 2016)."""

    architecture = volumes.UNet3D


class ResUNet3D(VolumeBaseline):
    """ResUnet: CleftNet without both of its augmentors (Liu and Ji 2021, sec. IV-G)."""

    architecture = volumes.ResUNet3D


class AttnUNet3D(VolumeBaseline):
    """AttnUnet: `ResUNet3D` with attention gates (Oktay et al. 2018) on its skips."""

    architecture = volumes.AttnUNet3D


class VNet(VolumeBaseline):
    """V-Net (Milletari et al. 2016)."""

    architecture = volumes.VNet


class SegNet3D(VolumeBaseline):
    """SegNet (Badrinarayanan et al. 2017) in three dimensions."""

    architecture = volumes.SegNet3D
