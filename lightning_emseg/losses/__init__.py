"""Losses on logits that leave ignored pixels out; each is named by ``class_path`` in an experiment's YAML."""

from data_modules.lazy_exports import lazy_exports
from lightning_emseg.core.short_names import SHORT_NAMES
from lightning_emseg.losses.bce import bce_loss
from lightning_emseg.losses.cleft import cleft_loss, coherence_loss, weighted_l2_loss
from lightning_emseg.losses.cross_entropy import cross_entropy_loss
from lightning_emseg.losses.dice import dice_loss
from lightning_emseg.losses.focal import focal_loss
from lightning_emseg.losses.focal_dice import focal_dice_loss
from lightning_emseg.losses.tversky import tversky_loss
from lightning_emseg.losses.weighted_bce import weighted_bce_loss

__all__ = [
    "bce_loss",
    "cleft_loss",
    "coherence_loss",
    "cross_entropy_loss",
    "dice_loss",
    "focal_dice_loss",
    "focal_loss",
    "tversky_loss",
    "weighted_bce_loss",
    "weighted_l2_loss",
    *SHORT_NAMES["losses"],
]

__getattr__, __dir__ = lazy_exports(__name__, SHORT_NAMES["losses"])
