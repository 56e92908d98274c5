"""Binary cross-entropy whose classes are weighted by each other's share: CleftNet's segmentation loss."""

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.losses.reduction import mean_over_valid, mean_over_weights, share_of_valid, valid_pixels


class WeightedBCELoss(nn.Module):
    """``L_s = −β Σ_{y=1} log P(1) − (1 − β) Σ_{y=0} log P(0)`` (Liu and Ji 2021, eq. 7), over the valid voxels.

    β is the share of background among a sample's valid voxels. Each sample's sum is divided by the number of its valid
    voxels (the paper prints the sum), which leaves its proportion to the other parts of CleftNet's loss unchanged; or,
    if ``balanced``, by the sum of its weights: the mean over either class, halved and added.

    A sample without foreground, or without background, has the loss 0 and no gradient, as the equation says.

    Args:
        balanced: Whether a patch counts the same however small its clefts are; otherwise it counts with their share.

    >>> import torch
    >>> round(WeightedBCELoss()(torch.zeros(1, 1, 4), torch.tensor([[0, 0, 0, 1]])).item(), 4)  # 2 · ¼ · ¾ · ln 2
    0.2599
    """

    def __init__(self, balanced: bool = False) -> None:
        super().__init__()
        self.balanced = balanced

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, 1, *S)`` of any floating dtype.
            target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.

        Returns:
            Scalar ≥ 0: per sample over its valid voxels, then over samples; float32 (float64 for float64 logits).

        Raises:
            ValueError: The shapes do not belong together.
        """
        pixels = valid_pixels(logits, target)
        # Both counted: 1 − β in single precision would be 1 % off where clefts are a voxel in a million.
        background, clefts = (share_of_valid(each, pixels.valid) for each in (1 - pixels.truth, pixels.truth))
        weight = background * pixels.truth + clefts * (1 - pixels.truth)
        loss = -F.logsigmoid(pixels.logits * (2 * pixels.truth - 1))
        if self.balanced:
            return mean_over_weights(loss, weight * pixels.valid)
        return mean_over_valid(loss * weight, pixels.valid)
