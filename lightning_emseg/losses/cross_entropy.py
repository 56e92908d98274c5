"""Cross-entropy over several classes, with a weight for each of them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.losses.reduction import mean_over_weights


class CrossEntropyLoss(nn.Module):
    """Weighted mean of ``−log softmax(logits)[y]`` over the valid pixels of each sample, then over the samples.

    The mean divides by the weights of a sample's pixels, as PyTorch's does by those of the batch. Conrad and Narayan
    (2021) weight classes below 10 % of all pixels by 3, the others by 1 and the background by 0.1.

    Args:
        weights: Weight of each class, in the order of ``model.classes``; 1 by default.

    Raises:
        UserError: A weight is negative, or none is positive.

    >>> round(CrossEntropyLoss()(torch.zeros(1, 4, 2), torch.tensor([[0, 3]])).item(), 4)  # ln 4
    1.3863
    """

    weights: Tensor | None

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is not None and (min(weights, default=0) < 0 or not any(weights)):
            raise UserError(f"CrossEntropyLoss: weights must be at least 0, and one above, got {list(weights)}")
        given = None if weights is None else torch.tensor([float(weight) for weight in weights])
        # Not persistent: a checkpoint goes without the loss it was trained with.
        self.register_buffer("weights", given, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, C, *S)`` of any floating dtype.
            target: ``uint8 (B, *S)``, 0 … C − 1 or 255 for ignored pixels.

        Returns:
            Scalar ≥ 0, float32 (float64 for float64 logits); a sample without valid pixels counts as 0.

        Raises:
            UserError: There is one map only, or there are not as many weights as classes.
            ValueError: The shapes do not belong together.
        """
        if self.weights is not None and len(self.weights) != logits.shape[1]:
            raise UserError(
                f"CrossEntropyLoss has {len(self.weights)} weights for {logits.shape[1]} classes: give one a class, in "
                "the order of model.classes"
            )
        if logits.ndim > 1 and logits.shape[1] == 1:
            raise UserError("CrossEntropyLoss is of several classes, but the network has one map: pass model.classes")
        if logits.ndim < 2 or logits.shape[:1] + logits.shape[2:] != target.shape:
            raise ValueError(
                f"CrossEntropyLoss takes logits (B, C, *S) of several classes and a target (B, *S), but got logits "
                f"{tuple(logits.shape)} and target {tuple(target.shape)}"
            )
        dtype = torch.promote_types(logits.dtype, torch.float32)
        flat = target.flatten(1).long()
        valid = flat != IGNORE
        known = torch.where(valid, flat, 0)
        # Selecting before computing, as 0 × inf is NaN: an ignored pixel must not matter whatever the network says.
        scores = torch.where(valid[:, None], logits.flatten(2).to(dtype), 0.0)
        of_class = torch.ones(logits.shape[1], device=logits.device) if self.weights is None else self.weights
        weight = torch.where(valid, of_class.to(dtype)[known], 0.0)
        return mean_over_weights(F.cross_entropy(scores, known, reduction="none"), weight)
