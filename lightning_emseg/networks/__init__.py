"""Networks that no library has, as plain modules from an image to logits.

Each has ``stride``: the sides of its input must be multiples of it (1 where any size goes).
"""

from lightning_emseg.networks.casenet import CASENet
from lightning_emseg.networks.hypercolumn import Hypercolumns
from lightning_emseg.networks.multiscale import MultiScaleInput
from lightning_emseg.networks.vanilla_unet import VanillaUNet

__all__ = ["CASENet", "Hypercolumns", "MultiScaleInput", "VanillaUNet"]
