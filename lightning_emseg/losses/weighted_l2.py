"""Squared error of distances, weighted by how rare they are: CleftNet's boundary loss."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.losses.reduction import valid_pixels
from lightning_emseg.losses.weighted_bce import share_of_valid, weighted_mean

Reading = Literal["intended", "as_printed"]
"""Of an equation that contradicts the text around it."""


def _by_rarity(inside: Tensor, outside: Tensor, valid: Tensor) -> Tensor:
    # Both shares are counted, as in `weighted_bce_loss`, for the sake of very small ones.
    return share_of_valid(outside, valid) * inside + share_of_valid(inside, valid) * outside


def _by_frequency(inside: Tensor, outside: Tensor, valid: Tensor) -> Tensor:
    return share_of_valid(inside, valid) * inside + share_of_valid(outside, valid) * outside


_WEIGHT: Mapping[Reading, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "intended": _by_rarity,
    "as_printed": _by_frequency,
}


def weighted_l2_loss(
    logits: Tensor, boundary: Tensor, target: Tensor, reading: Reading = "intended", balanced: bool = False
) -> Tensor:
    """``L_b = β Σ_{y_b>0} (y_b − ŷ_b)² + (1 − β) Σ_{y_b=0} (y_b − ŷ_b)²`` (Liu and Ji 2021, eq. 8), ŷ_b = tanh(logit).

    The paper defines β as the share of voxels with y_b > 0, which takes weight from the rare class where its L_s gives
    it weight. ``intended`` takes the share with y_b = 0, ``as_printed`` that with y_b > 0; of a sample's valid voxels.
    Each sample's sum is divided by the number of its valid voxels or, if ``balanced``, by the sum of its weights.

    The activation, which the paper leaves open, is tanh: y_b is the tanh of a distance, the background's 0 lies inside
    its range, and so does the "non-positive" ŷ_b of the coherence loss.

    Args:
        logits: ``(B, 1, *S)`` of any floating dtype.
        boundary: y_b, floating ``(B, *S)``, 0–1, of :func:`~lightning_emseg.targets.boundary_labels`.
        target: ``uint8 (B, *S)``, 255 ignore; its other values do not matter.
        reading: Of β.
        balanced: Whether to divide by the weights.

    Returns:
        Scalar ≥ 0: per sample over its valid voxels, then over samples; float32 (float64 for float64 logits).

    Raises:
        ValueError: The shapes do not belong together.

    >>> boundary, mask = torch.tensor([[0.5, 0, 0, 0]]), torch.zeros(1, 4)
    >>> weighted_l2_loss(torch.zeros(1, 1, 4), boundary, mask).item()  # ¾ · 0.5² / 4
    0.046875
    """
    if boundary.shape != target.shape:
        raise ValueError(
            f"a boundary label {tuple(boundary.shape)} does not belong to a target {tuple(target.shape)}: "
            "both must be (B, *S)"
        )
    pixels = valid_pixels(logits, target)
    label = torch.where(pixels.valid > 0, boundary.flatten(1).to(pixels.logits.dtype), 0.0)
    inside = (label > 0).to(label.dtype)
    weight = _WEIGHT[reading](inside, 1 - inside, pixels.valid)
    return weighted_mean((label - torch.tanh(pixels.logits)) ** 2, weight, pixels.valid, balanced)


class WeightedL2Loss(nn.Module):
    """CleftNet's boundary loss as a module (Liu and Ji 2021, eq. 8); see `weighted_l2_loss`."""

    def __init__(self, reading: Reading = "intended", balanced: bool = False) -> None:
        """Set the loss up.

        Args:
            reading: Whether β is the share of voxels outside of clefts (``intended``) or inside (``as_printed``).
            balanced: Whether a patch counts the same however small its clefts are.

        Raises:
            UserError: There is no such reading.
        """
        super().__init__()
        check_reading("WeightedL2Loss: reading", reading)
        self.reading, self.balanced = reading, balanced

    def forward(self, logits: Tensor, boundary: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; shapes as in `weighted_l2_loss`."""
        return weighted_l2_loss(logits, boundary, target, self.reading, self.balanced)


def check_reading(setting: str, reading: str) -> None:
    """Refuse a name that is no reading.

    Args:
        setting: Of a class, as a configuration has it.
        reading: What it was set to.

    Raises:
        UserError: There is no such reading.
    """
    if reading not in _WEIGHT:
        raise UserError(f"{setting} must be one of {', '.join(_WEIGHT)}, but is {reading!r}")
