"""Tversky loss: Dice with separate prices for false positives and false negatives."""

import torch
from torch import Tensor, nn

from lightning_emseg.losses.reduction import valid_pixels


class TverskyLoss(nn.Module):
    """Mean over samples of ``1 − (TP + s) / (TP + α·FP + β·FN + s)`` (Salehi et al. 2017, where s = 0).

    ``TP = Σyŷ``, ``FP = Σ(1 − y)ŷ`` and ``FN = Σy(1 − ŷ)`` over the valid pixels of one sample. With α = β = 0.5 and
    half of Dice's smoothing it is the Dice loss.

    Args:
        alpha: Price α ≥ 0 of a false positive.
        beta: Price β ≥ 0 of a false negative; above α it favours recall, that is unbroken membranes.
        smooth: Smoothing s in pixels, above 0.

    Raises:
        ValueError: A setting is out of its range.

    >>> round(TverskyLoss()(torch.zeros(1, 1, 2), torch.tensor([[0, 1]])).item(), 4)  # 1 − 1.5 / 2
    0.25
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> None:
        super().__init__()
        if alpha < 0 or beta < 0:
            raise ValueError(f"TverskyLoss: alpha and beta must be at least 0, but are {alpha} and {beta}")
        if smooth <= 0:
            raise ValueError(f"TverskyLoss: smooth must be above 0, but is {smooth}")
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

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
        hit = (pixels.truth * predicted).sum(1)
        false_positive = ((1 - pixels.truth) * predicted).sum(1)
        false_negative = (pixels.truth * (1 - predicted)).sum(1)
        score = (hit + self.smooth) / (hit + self.alpha * false_positive + self.beta * false_negative + self.smooth)
        return (1 - score).mean()
