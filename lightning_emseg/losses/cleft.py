"""The loss of CleftNet: segmentation, boundary and coherence together."""

from collections.abc import Sequence

from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.losses.coherence import coherence_loss, two_channels
from lightning_emseg.losses.weighted_bce import weighted_bce_loss
from lightning_emseg.losses.weighted_l2 import Reading, check_reading, weighted_l2_loss
from lightning_emseg.targets import CREMI_VOXEL, boundary_labels


def cleft_loss(
    logits: Tensor,
    boundary: Tensor,
    target: Tensor,
    boundary_weight: float = 0.5,
    coherence_weight: float = 0.2,
    boundary_reading: Reading = "intended",
    coherence_reading: Reading = "intended",
    balanced: bool = False,
) -> Tensor:
    """``L = L_s + α₁ L_b + α₂ L_c`` (Liu and Ji 2021, eq. 10); the weights are those of its section IV-B.

    See `weighted_bce_loss`, `weighted_l2_loss` and `coherence_loss`. Each part is a mean over the valid voxels of a
    sample where the paper has a sum, so that their proportions are the paper's. With these, L_c, whose voxels have no
    weights, outweighs the others by 1 / (2 β (1 − β)), a hundred times where clefts are half a percent, and ŷ_b tends
    to 1 everywhere. If ``balanced``, L_s and L_b are divided by the sums of their weights instead, and L_c is no more
    than the regulariser that the paper calls it.

    Args:
        logits: ``(B, 2, *S)`` of any floating dtype: channel 0 the logit of the segmentation (sigmoid), channel 1 that
            of the distance (tanh).
        boundary: y_b, floating ``(B, *S)``, 0–1, of :func:`~lightning_emseg.targets.boundary_labels`.
        target: ``uint8 (B, *S)`` with 0 background, 1 cleft, 255 ignore.
        boundary_weight: α₁ ≥ 0.
        coherence_weight: α₂ ≥ 0.
        boundary_reading: Of L_b.
        coherence_reading: Of L_c.
        balanced: Whether L_s and L_b are divided by their weights.

    Returns:
        Scalar ≥ 0; float32 (float64 for float64 logits).

    Raises:
        UserError: There are not two channels.
        ValueError: The shapes do not belong together.
    """
    segmentation, distance = two_channels(logits)
    return (
        weighted_bce_loss(segmentation, target, balanced)
        + boundary_weight * weighted_l2_loss(distance, boundary, target, boundary_reading, balanced)
        + coherence_weight * coherence_loss(logits, target, coherence_reading)
    )


class CleftLoss(nn.Module):
    """CleftNet's loss as a module, on masks alone (Liu and Ji 2021, eq. 10); see `cleft_loss`.

    y_b is made from the mask by :func:`~lightning_emseg.targets.boundary_labels`, on the CPU.
    """

    def __init__(
        self,
        boundary_weight: float = 0.5,
        coherence_weight: float = 0.2,
        boundary_reading: Reading = "intended",
        coherence_reading: Reading = "intended",
        voxel: Sequence[float] = CREMI_VOXEL,
        balanced: bool = False,
    ) -> None:
        """Set the loss up.

        Args:
            boundary_weight: α₁ ≥ 0.
            coherence_weight: α₂ ≥ 0.
            boundary_reading: Whether the rare inside of clefts gets the larger weight in L_b (``intended``) or the
                smaller one (``as_printed``).
            coherence_reading: Whether L_c punishes foreground where ŷ_b ≤ 0 (``intended``) or background
                (``as_printed``).
            voxel: Size of a voxel along z, y and x in pixels of a plane, for y_b: by default CREMI's 40 × 4 × 4 nm;
                ones count voxels.
            balanced: Whether L_s and L_b are divided by their weights instead of by the number of voxels.

        Raises:
            UserError: A weight is negative, a size is not positive, or there is no such reading.
        """
        super().__init__()
        if boundary_weight < 0 or coherence_weight < 0:
            raise UserError(
                "CleftLoss: boundary_weight and coherence_weight must be at least 0, but are "
                f"{boundary_weight} and {coherence_weight}"
            )
        if not all(size > 0 for size in voxel):
            raise UserError(f"CleftLoss: voxel must hold sizes above 0, but is {list(voxel)}")
        check_reading("CleftLoss: boundary_reading", boundary_reading)
        check_reading("CleftLoss: coherence_reading", coherence_reading)
        self.boundary_weight, self.coherence_weight = boundary_weight, coherence_weight
        self.boundary_reading, self.coherence_reading = boundary_reading, coherence_reading
        self.voxel, self.balanced = tuple(voxel), balanced

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: ``(B, 2, *S)`` as of `cleft_loss`.
            target: ``uint8 (B, *S)`` with 0 background, 1 cleft, 255 ignore.

        Returns:
            Scalar ≥ 0; float32 (float64 for float64 logits).

        Raises:
            UserError: There are not two channels.
            ValueError: The shapes do not belong together, or the voxel has another number of axes.
        """
        boundary = boundary_labels(target, self.voxel)
        weights, readings = (
            (self.boundary_weight, self.coherence_weight),
            (self.boundary_reading, self.coherence_reading),
        )
        return cleft_loss(logits, boundary, target, *weights, *readings, self.balanced)
