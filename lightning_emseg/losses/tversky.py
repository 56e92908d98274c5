"""Tversky loss: Dice with separate prices for false positives and false negatives."""

import torch
from torch import Tensor, nn

from lightning_emseg.losses.reduction import valid_pixels


def tversky_loss(logits: Tensor, target: Tensor, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> Tensor:
    """Mean over samples of ``1 − (TP + s) / (TP + α·FP + β·FN + s)`` (Salehi et al. 2017, where s = 0).

    ``TP = Σyŷ``, ``FP = Σ(1 − y)ŷ`` and ``FN = Σy(1 − ŷ)`` over the valid pixels of one sample. With α = β = 0.5 and
    half of Dice's smoothing it is the Dice loss.

    Args:
        logits: ``(B, 1, *S)`` of any floating dtype; ``ŷ`` is their sigmoid.
        target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.
        alpha: α ≥ 0, price of a false positive.
        beta: β ≥ 0, price of a false negative; above α it favours recall, that is unbroken membranes.
        smooth: s > 0.

    Returns:
        Scalar in [0, 1); float32 (float64 for float64 logits).

    Raises:
        ValueError: The shapes do not belong together.

    >>> round(tversky_loss(torch.zeros(1, 1, 2), torch.tensor([[0, 1]])).item(), 4)  # 1 − 1.5 / (0.5 + 0.15 + 0.35 + 1)
    0.25
    """
    pixels = valid_pixels(logits, target)
    predicted = torch.sigmoid(pixels.logits) * pixels.valid
    hit = (pixels.truth * predicted).sum(1)
    false_positive = ((1 - pixels.truth) * predicted).sum(1)
    false_negative = (pixels.truth * (1 - predicted)).sum(1)
    score = (hit + smooth) / (hit + alpha * false_positive + beta * false_negative + smooth)
    return (1 - score).mean()


class TverskyLoss(nn.Module):
    """Tversky loss as a module (Salehi et al. 2017); see `tversky_loss`."""

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> None:
        """Set the loss up.

        Args:
            alpha: Price α ≥ 0 of a false positive.
            beta: Price β ≥ 0 of a false negative.
            smooth: Added to the numerator and the denominator, in pixels; above 0.

        Raises:
            ValueError: A setting is out of its range.
        """
        super().__init__()
        if alpha < 0 or beta < 0:
            raise ValueError(f"TverskyLoss: alpha and beta must be at least 0, but are {alpha} and {beta}")
        if smooth <= 0:
            raise ValueError(f"TverskyLoss: smooth must be above 0, but is {smooth}")
        self.alpha = alpha
        self.beta = beta
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; shapes as in `tversky_loss`."""
        return tversky_loss(logits, target, self.alpha, self.beta, self.smooth)
