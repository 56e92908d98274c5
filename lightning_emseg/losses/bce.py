"""Binary cross-entropy with an optional weight on the rare foreground."""

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.losses.reduction import mean_over_valid, valid_pixels


class BCELoss(nn.Module):
    """Mean of ``−w·y·log ŷ − (1 − y)·log(1 − ŷ)``, the loss of the published U-RISC code for its U-Net (with w = 1).

    The mean divides by the number of valid pixels, not by their weights, as PyTorch's ``pos_weight`` does.

    Args:
        positive_weight: Weight w of a foreground pixel relative to a background pixel, above 0; background share
            over foreground share balances the classes (18.6 for the 5.1 % membrane of U-RISC).

    Raises:
        ValueError: ``positive_weight`` is not positive.

    >>> import torch
    >>> round(BCELoss(positive_weight=3.0)(torch.zeros(1, 1, 2), torch.tensor([[0, 1]])).item(), 4)  # 2 · ln 2
    1.3863
    """

    def __init__(self, positive_weight: float = 1.0) -> None:
        super().__init__()
        if positive_weight <= 0:
            raise ValueError(f"BCELoss: positive_weight must be above 0, but is {positive_weight}")
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, 1, *S)`` of any floating dtype.
            target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.

        Returns:
            Scalar ≥ 0; float32 (float64 for float64 logits).

        Raises:
            ValueError: The shapes do not belong together.
        """
        pixels = valid_pixels(logits, target)
        weight = 1 + (self.positive_weight - 1) * pixels.truth
        towards_truth = pixels.logits * (2 * pixels.truth - 1)
        return mean_over_valid(-weight * F.logsigmoid(towards_truth), pixels.valid)
