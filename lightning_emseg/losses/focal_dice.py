"""The loss of the U-RISC papers: focal plus weighted Dice."""

from torch import Tensor, nn

from lightning_emseg.losses.dice import dice_loss
from lightning_emseg.losses.focal import focal_loss


def focal_dice_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, dice_weight: float = 1.0) -> Tensor:
    """``L = L_focal + λ · L_dice`` (Shi et al. 2021, "Loss function and optimization").

    Args:
        logits: ``(B, 1, *S)`` of any floating dtype.
        target: ``uint8 (B, *S)`` with 0 background, 1 foreground, 255 ignore.
        gamma: γ of `focal_loss`.
        dice_weight: λ ≥ 0.

    Returns:
        Scalar ≥ 0; float32 (float64 for float64 logits).

    Raises:
        ValueError: The shapes do not belong together.
    """
    return focal_loss(logits, target, gamma) + dice_weight * dice_loss(logits, target)


class FocalDiceLoss(nn.Module):
    """Focal plus Dice loss as a module (Shi et al. 2021); see `focal_dice_loss`."""

    def __init__(self, gamma: float = 2.0, dice_weight: float = 1.0) -> None:
        """Set the loss up.

        Args:
            gamma: Focusing exponent γ ≥ 0 of the focal part.
            dice_weight: λ ≥ 0, weight of the Dice part (whose smoothing is 1, as in the paper's equation).

        Raises:
            ValueError: A setting is negative.
        """
        super().__init__()
        if gamma < 0 or dice_weight < 0:
            raise ValueError(
                f"FocalDiceLoss: gamma and dice_weight must be at least 0, but are {gamma} and {dice_weight}"
            )
        self.gamma = gamma
        self.dice_weight = dice_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; shapes as in `focal_dice_loss`."""
        return focal_dice_loss(logits, target, self.gamma, self.dice_weight)
