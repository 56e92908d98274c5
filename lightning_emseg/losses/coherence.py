"""CleftNet's coherence loss: what the network says of a voxel's class and of its depth must not contradict."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.losses.reduction import mean_over_valid, valid_pixels
from lightning_emseg.losses.weighted_l2 import Reading, check_reading

FLOOR = 1e-3
"""Least ŷ_b under the logarithm: far below any true y_b inside a cleft; it bounds the gradient of a voxel by 1,000."""

_OFF_BOUNDARY: Mapping[Reading, Callable[[Tensor], Tensor]] = {
    "intended": lambda logits: -F.logsigmoid(-logits),
    "as_printed": lambda logits: -F.logsigmoid(logits),
}


def coherence_loss(logits: Tensor, target: Tensor, reading: Reading = "intended") -> Tensor:
    """``L_c = −Σ_{ŷ_b>0} (1 − ŷ_s) log ŷ_b − Σ_{ŷ_b≤0} (1 − ŷ_b) log P`` (Liu and Ji 2021, eq. 9).

    P is P(y_s = 1) ``as_printed``. That punishes correct background, while the text wants to punish a voxel whose
    "predicted boundary value is zero but the predicted segmentation value is one": ``intended`` takes P(y_s = 0).

    ŷ_b = tanh(second logit): a sigmoid would leave the second sum empty, and a linear output would make the logarithm
    positive. ŷ_s is soft, P(y_s = 1) = sigmoid(first logit), so that the first sum teaches both channels; a rounded ŷ_s
    would move ŷ_b alone. The logarithm of ŷ_b is that of at least `FLOOR`; below it the first sum has no gradient in
    ŷ_b. That of P comes from the logits and needs no clamp. Each sample's sum is divided by the number of its valid
    voxels.

    By itself the first sum pulls every positive ŷ_b up to 1, on the background too, where it outweighs L_b unless that
    is ``balanced``: see :func:`~lightning_emseg.losses.cleft.cleft_loss`.

    Args:
        logits: ``(B, 2, *S)`` of any floating dtype: segmentation, then distance.
        target: ``uint8 (B, *S)``, 255 ignore; its other values do not matter.
        reading: Of the second sum.

    Returns:
        Scalar ≥ 0: per sample over its valid voxels, then over samples; float32 (float64 for float64 logits).

    Raises:
        UserError: There are not two channels.
        ValueError: The shapes do not belong together.

    >>> logits = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])  # half sure of both, one of them inside
    >>> round(coherence_loss(logits, torch.zeros(1, 2)).item(), 4)  # (−½ log tanh 1 + log 2) / 2
    0.4147
    """
    segmentation, distance = two_channels(logits)
    pixels, depth = valid_pixels(segmentation, target), valid_pixels(distance, target).logits
    boundary = torch.tanh(depth)
    inside = -torch.sigmoid(-pixels.logits) * boundary.clamp(min=FLOOR).log()
    outside = (1 - boundary) * _OFF_BOUNDARY[reading](pixels.logits)
    return mean_over_valid(torch.where(depth > 0, inside, outside), pixels.valid)


class CoherenceLoss(nn.Module):
    """CleftNet's coherence loss as a module (Liu and Ji 2021, eq. 9); see `coherence_loss`."""

    def __init__(self, reading: Reading = "intended") -> None:
        """Set the loss up.

        Args:
            reading: Whether the second sum punishes foreground where ŷ_b ≤ 0 (``intended``) or background
                (``as_printed``).

        Raises:
            UserError: There is no such reading.
        """
        super().__init__()
        check_reading("CoherenceLoss: reading", reading)
        self.reading = reading

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; shapes as in `coherence_loss`."""
        return coherence_loss(logits, target, self.reading)


def two_channels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Segmentation and distance, each ``(B, 1, *S)``, of logits ``(B, 2, *S)``.

    Raises:
        UserError: There are not two channels.
    """
    if logits.ndim < 2 or logits.shape[1] != 2:
        raise UserError(
            "CleftNet's losses take logits (B, 2, *S), segmentation and distance, but the network gives "
            f"{tuple(logits.shape)}: use a network with two output channels, or WeightedBCELoss for one"
        )
    return logits[:, :1], logits[:, 1:]
