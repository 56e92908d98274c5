"""CleftNet's loss and its label augmentor."""

from collections.abc import Sequence
from typing import Literal, get_args

import edt
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.losses.reduction import mean_over_valid, mean_over_weights, share_of_valid, valid_pixels
from lightning_emseg.losses.weighted_bce import WeightedBCELoss

CREMI_VOXEL = (10.0, 1.0, 1.0)
"""A voxel of 40 × 4 × 4 nm in pixels of its plane."""

Volume = NDArray[np.float32]


def tanh_distance_map(
    clefts: NDArray[np.integer], ignored: NDArray[np.bool_], voxel: Sequence[float] = CREMI_VOXEL
) -> Volume:
    """Compute the tanh of each cleft voxel's distance to the nearest one outside of its cleft (Liu and Ji 2021, eq. 6).

    The paper measures to the "boundary voxels of this cleft". Were these voxels of the cleft, all of a thin cleft would
    be 0, as its outside is, so the distance here is that between the centres of a voxel and of the nearest one that is
    known not to belong to the same cleft. An ignored voxel is neither cleft nor outside: distances reach across it to
    what is known. Nor is the border of the array an outside, as patches cut through clefts.

    Source: eq. 6 of the paper; the unit, which decides where tanh saturates, is left open by it. In nanometers all
    values would be 1.

    Args:
        clefts: ``(*S)``, 2D or 3D; 0 outside, any other value the id of a cleft. Touching clefts of different ids have
            a boundary between them. Where clefts are told apart as connected components (of any connectivity), 1 for
            all of them gives the same distances: the voxel nearest to a component and outside of it is background,
            since the next one on the way to it would otherwise be nearer.
        ignored: ``bool (*S)``; such voxels get 0, whatever their id.
        voxel: Size of a voxel along each axis in the unit of the distance, by default in pixels of CREMI's planes.
            Ones count voxels.

    Returns:
        ``float32 (*S)`` in (0, 1] inside clefts, 0 elsewhere; 1 in single precision from a distance of about 9 on, and
        where nothing known is outside.

    >>> tanh_distance_map(np.array([[0, 1, 1, 0, 0]]), np.zeros((1, 5), bool), (1, 1)).round(3)
    array([[0.   , 0.762, 0.762, 0.   , 0.   ]], dtype=float32)
    """
    inside = (clefts != 0) & ~ignored
    if not inside.any():
        return np.zeros(clefts.shape, np.float32)
    if not ignored.any():
        return np.tanh(_depth(clefts, voxel))
    found = np.zeros(clefts.shape, np.float32)
    for cleft in np.unique(clefts[inside]):
        own = inside & (clefts == cleft)
        # What is ignored counts as the same cleft here, so that no distance ends in it.
        found[own] = np.tanh(_depth((own | ignored).view(np.uint8), voxel)[own])
    return found


def _depth(labels: NDArray[np.integer], voxel: Sequence[float]) -> Volume:
    """Compute the distance of labelled voxels to the nearest one with another label; infinite if there is none."""
    # Not of booleans, which the package takes up to ten times as long for.
    distances: Volume = edt.edt(np.ascontiguousarray(labels), anisotropy=tuple(voxel), black_border=False)
    return distances


@torch.compiler.disable  # type: ignore[untyped-decorator]
def boundary_labels(mask: Tensor, voxel: Sequence[float] = CREMI_VOXEL) -> Tensor:
    """Make the boundary labels y_b of a batch of masks; see :func:`tanh_distance_map`.

    The transform runs on the CPU, one sample after the other.

    Args:
        mask: ``uint8 (B, *S)`` on any device, 1 cleft, 0 outside, 255 ignore; every other value counts as outside.
        voxel: Size of a voxel along each axis in pixels of its plane.

    Returns:
        ``float32 (B, *S)`` on the device of the mask, in (0, 1] where the mask is 1 and 0 elsewhere, also where it is
        ignored.

    Raises:
        ValueError: There is not one size of a voxel an axis.
    """
    if mask.ndim - 1 != len(voxel):
        raise ValueError(f"boundary_labels: a mask (B, *S) of {tuple(mask.shape)} has no voxel of {tuple(voxel)}")
    masks = mask.cpu().numpy()
    maps = [tanh_distance_map((each == 1).view(np.uint8), each == IGNORE, voxel) for each in masks]
    return torch.from_numpy(np.stack(maps)).to(mask.device)


FLOOR = 1e-3
"""Least ŷ_b under the logarithm: far below any true y_b inside a cleft; it bounds the gradient of a voxel by 1,000."""

Reading = Literal["intended", "as_printed"]
"""Meaning of an equation that contradicts the text around it."""


class WeightedL2Loss(nn.Module):
    """``L_b = β Σ_{y_b>0} (y_b − ŷ_b)² + (1 − β) Σ_{y_b=0} (y_b − ŷ_b)²`` (Liu and Ji 2021, eq. 8), ŷ_b = tanh(logit).

    The paper defines β as the share of voxels with y_b > 0, which takes weight from the rare class where its L_s gives
    it weight. ``intended`` takes the share with y_b = 0, ``as_printed`` that with y_b > 0; of a sample's valid voxels.
    Each sample's sum is divided by the number of its valid voxels or, if ``balanced``, by the sum of its weights.

    The activation, which the paper leaves open, is tanh: y_b is the tanh of a distance, the background's 0 lies inside
    its range, and so does the "non-positive" ŷ_b of the coherence loss.

    Args:
        reading: Whether β is the share of voxels outside of clefts (``intended``) or inside (``as_printed``).
        balanced: Whether a patch counts the same however small its clefts are.

    Raises:
        UserError: There is no such reading.

    >>> boundary, mask = torch.tensor([[0.5, 0, 0, 0]]), torch.zeros(1, 4)
    >>> WeightedL2Loss()(torch.zeros(1, 1, 4), boundary, mask).item()  # ¾ · 0.5² / 4
    0.046875
    """

    def __init__(self, reading: Reading = "intended", balanced: bool = False) -> None:
        super().__init__()
        _check_reading("WeightedL2Loss", reading)
        self.reading, self.balanced = reading, balanced

    def forward(self, logits: Tensor, boundary: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, 1, *S)`` of any floating dtype.
            boundary: Boundary labels y_b, floating ``(B, *S)``, 0–1, as :func:`boundary_labels` makes them.
            target: ``uint8 (B, *S)``, 255 ignore; its other values do not matter.

        Returns:
            Scalar ≥ 0: per sample over its valid voxels, then over samples; float32 (float64 for float64 logits).

        Raises:
            ValueError: The shapes do not belong together.
        """
        if boundary.shape != target.shape:
            raise ValueError(
                f"a boundary label {tuple(boundary.shape)} does not belong to a target {tuple(target.shape)}: "
                "both must be (B, *S)"
            )
        pixels = valid_pixels(logits, target)
        label = torch.where(pixels.valid > 0, boundary.flatten(1).to(pixels.logits.dtype), 0.0)
        inside = (label > 0).to(label.dtype)
        outside = 1 - inside
        # Both shares are counted, as in `WeightedBCELoss`, for the sake of very small ones.
        shares = share_of_valid(outside, pixels.valid), share_of_valid(inside, pixels.valid)
        of_inside, of_outside = shares if self.reading == "intended" else shares[::-1]
        weight = of_inside * inside + of_outside * outside
        loss = (label - torch.tanh(pixels.logits)) ** 2
        if self.balanced:
            return mean_over_weights(loss, weight * pixels.valid)
        return mean_over_valid(loss * weight, pixels.valid)


class CoherenceLoss(nn.Module):
    """``L_c = −Σ_{ŷ_b>0} (1 − ŷ_s) log ŷ_b − Σ_{ŷ_b≤0} (1 − ŷ_b) log P`` (Liu and Ji 2021, eq. 9).

    P is P(y_s = 1) ``as_printed``. That punishes correct background, while the text wants to punish a voxel whose
    "predicted boundary value is zero but the predicted segmentation value is one": ``intended`` takes P(y_s = 0).

    ŷ_b = tanh(second logit): a sigmoid would leave the second sum empty, and a linear output would make the logarithm
    positive. ŷ_s is soft, P(y_s = 1) = sigmoid(first logit), so that the first sum teaches both channels; a rounded ŷ_s
    would move ŷ_b alone. The logarithm of ŷ_b is that of at least `FLOOR`; below it the first sum has no gradient in
    ŷ_b. That of P comes from the logits and needs no clamp. Each sample's sum is divided by the number of its valid
    voxels.

    By itself the first sum pulls every positive ŷ_b up to 1, on the background too, where it outweighs L_b unless that
    is ``balanced``: see `CleftLoss`.

    Args:
        reading: Whether the second sum punishes foreground where ŷ_b ≤ 0 (``intended``) or background
            (``as_printed``).

    Raises:
        UserError: There is no such reading.

    >>> logits = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])  # half sure of both, one of them inside
    >>> round(CoherenceLoss()(logits, torch.zeros(1, 2)).item(), 4)  # (−½ log tanh 1 + log 2) / 2
    0.4147
    """

    def __init__(self, reading: Reading = "intended") -> None:
        super().__init__()
        _check_reading("CoherenceLoss", reading)
        self.reading = reading

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(B, 2, *S)`` of any floating dtype: segmentation, then distance.
            target: ``uint8 (B, *S)``, 255 ignore; its other values do not matter.

        Returns:
            Scalar ≥ 0: per sample over its valid voxels, then over samples; float32 (float64 for float64 logits).

        Raises:
            UserError: There are not two channels.
            ValueError: The shapes do not belong together.
        """
        segmentation, distance = _two_channels(logits)
        pixels, depth = valid_pixels(segmentation, target), valid_pixels(distance, target).logits
        boundary = torch.tanh(depth)
        inside = -torch.sigmoid(-pixels.logits) * boundary.clamp(min=FLOOR).log()
        wrong = -pixels.logits if self.reading == "intended" else pixels.logits
        outside = (1 - boundary) * -F.logsigmoid(wrong)
        return mean_over_valid(torch.where(depth > 0, inside, outside), pixels.valid)


class CleftLoss(nn.Module):
    """``L = L_s + α₁ L_b + α₂ L_c`` (Liu and Ji 2021, eq. 10); the weights are those of its section IV-B.

    See `WeightedBCELoss`, `WeightedL2Loss` and `CoherenceLoss`. Each part is a mean over the valid voxels of a sample
    where the paper has a sum, so that their proportions are the paper's. With these, L_c, whose voxels have no weights,
    outweighs the others by 1 / (2 β (1 − β)), a hundred times where clefts are half a percent, and ŷ_b tends to 1
    everywhere. If ``balanced``, L_s and L_b are divided by the sums of their weights instead, and L_c is no more than
    the regulariser that the paper calls it.

    Args:
        boundary_weight: Weight α₁ ≥ 0 of L_b.
        coherence_weight: Weight α₂ ≥ 0 of L_c.
        boundary_reading: Whether the rare inside of clefts gets the larger weight in L_b (``intended``) or the smaller
            one (``as_printed``).
        coherence_reading: Whether L_c punishes foreground where ŷ_b ≤ 0 (``intended``) or background (``as_printed``).
        voxel: Size of a voxel along z, y and x in pixels of a plane, for y_b: by default CREMI's 40 × 4 × 4 nm; ones
            count voxels.
        balanced: Whether L_s and L_b are divided by their weights instead of by the number of voxels.

    Raises:
        UserError: A weight is negative, a size is not positive, or there is no such reading.
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
        super().__init__()
        if boundary_weight < 0 or coherence_weight < 0:
            raise UserError(
                "CleftLoss: boundary_weight and coherence_weight must be at least 0, but are "
                f"{boundary_weight} and {coherence_weight}"
            )
        if not all(size > 0 for size in voxel):
            raise UserError(f"CleftLoss: voxel must hold sizes above 0, but is {list(voxel)}")
        _check_reading("CleftLoss", boundary_reading, "boundary_reading")
        _check_reading("CleftLoss", coherence_reading, "coherence_reading")
        self.segmentation = WeightedBCELoss(balanced)
        self.boundary = WeightedL2Loss(boundary_reading, balanced)
        self.coherence = CoherenceLoss(coherence_reading)
        self.boundary_weight, self.coherence_weight, self.voxel = boundary_weight, coherence_weight, tuple(voxel)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; y_b is made from the mask by :func:`boundary_labels`, on the CPU.

        Args:
            logits: ``(B, 2, *S)`` of any floating dtype: channel 0 the logit of the segmentation (sigmoid), channel 1
                that of the distance (tanh).
            target: ``uint8 (B, *S)`` with 0 background, 1 cleft, 255 ignore.

        Returns:
            Scalar ≥ 0; float32 (float64 for float64 logits).

        Raises:
            UserError: There are not two channels.
            ValueError: The shapes do not belong together, or the voxel has another number of axes.
        """
        labels = boundary_labels(target, self.voxel)
        segmentation, distance = _two_channels(logits)
        loss: Tensor = (
            self.segmentation(segmentation, target)
            + self.boundary_weight * self.boundary(distance, labels, target)
            + self.coherence_weight * self.coherence(logits, target)
        )
        return loss


def _check_reading(loss: str, reading: str, setting: str = "reading") -> None:
    if reading not in get_args(Reading):
        raise UserError(f"{loss}: {setting} must be one of {', '.join(get_args(Reading))}, but is {reading!r}")


def _two_channels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Split logits ``(B, 2, *S)`` into segmentation and distance, each ``(B, 1, *S)``."""
    if logits.ndim < 2 or logits.shape[1] != 2:
        raise UserError(
            "CleftNet's losses take logits (B, 2, *S), segmentation and distance, but the network gives "
            f"{tuple(logits.shape)}: use a network with two output channels, or WeightedBCELoss for one"
        )
    return logits[:, :1], logits[:, 1:]
