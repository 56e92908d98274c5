"""Dice loss: one minus a soft F1 of each sample."""

import torch
from torch import Tensor, nn

from lightning_emseg.losses.reduction import valid_pixels


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
