"""Networks of volumes: CleftNet and the networks that it is compared with, as plain modules from volume to logits.

Each has ``stride``, a number an axis: Z, Y and X of its input must be multiples of them. All have four levels and a
bottom of 32, 64, 96, 128 and 160 channels by default, and one rule for which axes a level halves.
"""

from lightning_emseg.networks.volumes.baselines import AttnUNet3D, ResUNet3D, SegNet3D, UNet3D, VNet
from lightning_emseg.networks.volumes.cleftnet import CleftNet

__all__ = ["AttnUNet3D", "CleftNet", "ResUNet3D", "SegNet3D", "UNet3D", "VNet"]
