"""Binary cross-entropy whose classes are weighted by each other's share: CleftNet's segmentation loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.losses.reduction import mean_over_valid, valid_pixels


def share_of_valid(chosen: Tensor, valid: Tensor) -> Tensor:
    """Share of each sample's valid pixels that are chosen.

    Args:
        chosen: float ``(B, N)``, 0 or 1.
        valid: float ``(B, N)``, 0 or 1.

    Returns:
        ``(B, 1)``, 0–1; 0 for a sample without valid pixels.
    """
    return (chosen * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)


def weighted_mean(loss: Tensor, weight: Tensor, valid: Tensor, balanced: bool) -> Tensor:
    """Mean over each sample's valid pixels, then over samples.

    Args:
        loss: float ``(B, N)``, finite everywhere.
        weight: float ``(B, N)``, 0 or more.
        valid: float ``(B, N)``, 0 or 1.
        balanced: Whether a sample's sum is divided by its weights instead of by the number of its valid pixels.

    Returns:
        Scalar; a sample without valid pixels, or without weight, counts as 0.
    """
    if not balanced:
        return mean_over_valid(loss * weight, valid)
    total = (weight * valid).sum(1)
    return ((loss * weight * valid).sum(1) / torch.where(total > 0, total, 1.0)).mean()


def weighted_bce_loss(logits: Tensor, target: Tensor, balanced: bool = False) -> Tensor:
    """``L_s = −β Σ_{y=1} log P(1) − (1 − β) Σ_{y=0} log P(0)`` (Liu and Ji 2021, eq. 7), over the valid voxels.

    β is the share of background among a sample's valid voxels. Each sample's sum is divided by the number of its valid
    voxels (the paper prints the sum), which leaves its proportion to the other parts of CleftNet's loss unchanged; or,
    if ``balanced``, by the sum of its weights: the mean over either class, halved and added.

    A sample without foreground, or without background, has the loss 0 and no gradient, as the equation says.

    Args:
        logits: ``(B, 1, *S)`` of any floating dtype.
        target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.
        balanced: Whether to divide by the weights.

    Returns:
        Scalar ≥ 0: per sample over its valid voxels, then over samples; float32 (float64 for float64 logits).

    Raises:
        ValueError: The shapes do not belong together.

    >>> round(weighted_bce_loss(torch.zeros(1, 1, 4), torch.tensor([[0, 0, 0, 1]])).item(), 4)  # 2 · ¼ · ¾ · ln 2
    0.2599
    """
    pixels = valid_pixels(logits, target)
    # Both counted: 1 − β in single precision would be 1 % off where clefts are a voxel in a million.
    background, clefts = (share_of_valid(each, pixels.valid) for each in (1 - pixels.truth, pixels.truth))
    weight = background * pixels.truth + clefts * (1 - pixels.truth)
    towards_truth = pixels.logits * (2 * pixels.truth - 1)
    return weighted_mean(-F.logsigmoid(towards_truth), weight, pixels.valid, balanced)


class WeightedBCELoss(nn.Module):
    """CleftNet's segmentation loss as a module, alone the loss of CleftNet without label augmentor.

    See `weighted_bce_loss` (Liu and Ji 2021, eq. 7).
    """

    def __init__(self, balanced: bool = False) -> None:
        """Set the loss up.

        Args:
            balanced: Whether a patch counts the same however small its clefts are; otherwise it counts with their
                share.
        """
        super().__init__()
        self.balanced = balanced

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; shapes as in `weighted_bce_loss`."""
        return weighted_bce_loss(logits, target, self.balanced)
