"""Losses on logits that leave ignored pixels out; each is named by ``class_path`` in an experiment's YAML."""

from lightning_emseg.losses.bce import BCELoss, bce_loss
from lightning_emseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from lightning_emseg.losses.dice import DiceLoss, dice_loss
from lightning_emseg.losses.focal import FocalLoss, focal_loss
from lightning_emseg.losses.focal_dice import FocalDiceLoss, focal_dice_loss
from lightning_emseg.losses.tversky import TverskyLoss, tversky_loss

__all__ = [
    "BCELoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalDiceLoss",
    "FocalLoss",
    "TverskyLoss",
    "bce_loss",
    "cross_entropy_loss",
    "dice_loss",
    "focal_dice_loss",
    "focal_loss",
    "tversky_loss",
]
