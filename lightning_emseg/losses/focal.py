"""Focal loss: cross-entropy that fades on pixels the network already has right."""

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
