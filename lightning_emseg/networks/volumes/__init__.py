"""Networks of volumes: CleftNet and the networks that it is compared with, as plain modules from volume to logits.

Each has ``stride``, a number an axis: Z, Y and X of its input must be multiples of them. All have four levels and a
bottom of 32, 64, 96, 128 and 160 channels by default, and one rule for which axes a level halves.
"""

from lightning_emseg.networks.volumes.attnunet3d import AttnUNet3D
from lightning_emseg.networks.volumes.cleftnet import CleftNet
from lightning_emseg.networks.volumes.resunet3d import ResUNet3D
from lightning_emseg.networks.volumes.segnet3d import SegNet3D
from lightning_emseg.networks.volumes.unet3d import UNet3D
from lightning_emseg.networks.volumes.vnet import VNet

__all__ = ["AttnUNet3D", "CleftNet", "ResUNet3D", "SegNet3D", "UNet3D", "VNet"]
