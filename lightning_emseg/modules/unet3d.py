"""The 3D U-Net."""

from typing import Any

from lightning_emseg.modules.mixin import SegmentationMixin
from lightning_emseg.modules.outputs import maps_of
from lightning_emseg.networks import volumes


class UNet3D(SegmentationMixin):
    """3D U-Net (Çiçek et al. 2016) with the channels of CleftNet, a network of volumes.

    Args:
        patch: ``(Z, Y, X)`` of ``data.patch_size``, from which follows which axes each level halves.
        voxel_nm: ``(Z, Y, X)`` of a voxel, so that long axes are halved later; voxels pass for cubes without.
        widths: Channels of the levels, finest first, and of the bottom.
        in_channels: Channels of the volumes.
        classes: Names of all classes to tell apart, the background first; none for a single foreground.
        kwargs: See :class:`~lightning_emseg.modules.mixin.SegmentationMixin`.
    """

    network_axes = 3

    def __init__(
        self,
        patch: tuple[int, int, int] = (8, 256, 256),
        voxel_nm: tuple[float, float, float] | None = None,
        widths: tuple[int, ...] = (32, 64, 96, 128, 160),
        in_channels: int = 1,
        classes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        network = volumes.UNet3D(in_channels, maps_of(classes), widths, patch, voxel_nm)
        super().__init__(network, in_channels=in_channels, stride=max(network.stride[1:]), classes=classes, **kwargs)
