"""``emseg features``: what the features of encoders respond to."""

from lightning_emseg.commands.features.firing_rate import firing_rate
from lightning_emseg.commands.features.occlusion import occlusion
from lightning_emseg.commands.features.selectivity import selectivity

__all__ = ["firing_rate", "occlusion", "selectivity"]
