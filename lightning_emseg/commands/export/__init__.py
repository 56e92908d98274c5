"""``emseg export``: trained networks and predictions for other programs."""

from lightning_emseg.commands.export.cremi import cremi
from lightning_emseg.commands.export.encoder import encoder

__all__ = ["cremi", "encoder"]
