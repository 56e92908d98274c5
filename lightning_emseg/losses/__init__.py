"""Losses on logits that leave ignored pixels out; each is named by ``class_path`` in an experiment's YAML."""

from lightning_emseg.losses.bce import BCELoss, bce_loss
from lightning_emseg.losses.cleft import CleftLoss, cleft_loss
from lightning_emseg.losses.coherence import CoherenceLoss, coherence_loss
from lightning_emseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from lightning_emseg.losses.dice import DiceLoss, dice_loss
from lightning_emseg.losses.focal import FocalLoss, focal_loss
from lightning_emseg.losses.focal_dice import FocalDiceLoss, focal_dice_loss
from lightning_emseg.losses.tversky import TverskyLoss, tversky_loss
from lightning_emseg.losses.weighted_bce import WeightedBCELoss, weighted_bce_loss
from lightning_emseg.losses.weighted_l2 import WeightedL2Loss, weighted_l2_loss

__all__ = [
    "BCELoss",
    "CleftLoss",
    "CoherenceLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalDiceLoss",
    "FocalLoss",
    "TverskyLoss",
    "WeightedBCELoss",
    "WeightedL2Loss",
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
]
