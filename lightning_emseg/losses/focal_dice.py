"""The loss of the U-RISC papers: focal plus weighted Dice."""

from torch import Tensor, nn

from lightning_emseg.losses.dice import DiceLoss
from lightning_emseg.losses.focal import FocalLoss


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
