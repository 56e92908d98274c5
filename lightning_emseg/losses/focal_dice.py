"""Focal loss, Dice loss and their weighted sum, the loss of the U-RISC papers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.losses.reduction import mean_over_valid, valid_pixels


class FocalLoss(nn.Module):
    """Mean of ``−(1 − p)^γ · log p`` with ``p`` the probability of the true class (Shi et al. 2021, eq. 1).

    The equation is that of Lin et al. 2017 (eq. 4) without their class weight α. ``γ = 0`` is the binary cross-entropy.

    Args:
        gamma: Focusing exponent γ ≥ 0; 2 is the value of Shi et al. 2022.

    Raises:
        ValueError: ``gamma`` is negative.

    >>> round(FocalLoss()(torch.zeros(1, 1, 2), torch.tensor([[0, 1]])).item(), 4)  # 0.25 · ln 2
    0.1733
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"FocalLoss: gamma must be at least 0, but is {gamma}")
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, 1, *S)`` of any floating dtype.
            target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.

        Returns:
            Scalar ≥ 0: per sample over its valid pixels, then over samples; float32 (float64 for float64 logits).

        Raises:
            ValueError: The shapes do not belong together.
        """
        pixels = valid_pixels(logits, target)
        towards_truth = pixels.logits * (2 * pixels.truth - 1)
        # exp(γ · log(1 − p)) instead of a power: a power of an underflowed 0 has no finite gradient for γ < 1.
        fading = torch.exp(self.gamma * F.logsigmoid(-towards_truth))
        return mean_over_valid(-fading * F.logsigmoid(towards_truth), pixels.valid)


class DiceLoss(nn.Module):
    """Mean over samples of ``1 − (2·Σyŷ + s) / (Σy + Σŷ + s)`` (Shi et al. 2021, eq. 2, where s = 1).

    The sums run over the valid pixels of one sample, never over the batch: pooled sums would make the mean over
    ranks differ from the loss of the whole batch.

    Args:
        smooth: Smoothing s in pixels, above 0; it defines a sample without foreground or without valid pixels.

    Raises:
        ValueError: ``smooth`` is not positive.

    >>> DiceLoss()(torch.zeros(1, 1, 2), torch.tensor([[0, 1]])).item()  # 1 − (2 · 0.5 + 1) / (1 + 1 + 1)
    0.3333333134651184
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        if smooth <= 0:
            raise ValueError(f"DiceLoss: smooth must be above 0, but is {smooth}")
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, 1, *S)`` of any floating dtype; ``ŷ`` is their sigmoid.
            target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.

        Returns:
            Scalar in [0, 1); float32 (float64 for float64 logits).

        Raises:
            ValueError: The shapes do not belong together.
        """
        pixels = valid_pixels(logits, target)
        predicted = torch.sigmoid(pixels.logits) * pixels.valid
        overlap = (pixels.truth * predicted).sum(1)
        score = (2 * overlap + self.smooth) / (pixels.truth.sum(1) + predicted.sum(1) + self.smooth)
        return (1 - score).mean()


class FocalDiceLoss(nn.Module):
    """``L = L_focal + λ · L_dice`` (Shi et al. 2021, "Loss function and optimization").

    Args:
        gamma: Focusing exponent γ ≥ 0 of the focal part.
        dice_weight: λ ≥ 0, weight of the Dice part (whose smoothing is 1, as in the paper's equation).

    Raises:
        ValueError: A setting is negative.
    """

    def __init__(self, gamma: float = 2.0, dice_weight: float = 1.0) -> None:
        super().__init__()
        if dice_weight < 0:
            raise ValueError(f"FocalDiceLoss: dice_weight must be at least 0, but is {dice_weight}")
        self.focal, self.dice, self.dice_weight = FocalLoss(gamma), DiceLoss(), dice_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; shapes as in `FocalLoss`."""
        loss: Tensor = self.focal(logits, target) + self.dice_weight * self.dice(logits, target)
        return loss
