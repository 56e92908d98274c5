"""Checked shapes, the computing precision, and means over the pixels that are not ignored.

Every loss is taken per sample over that sample's valid pixels and then averaged over the samples of the batch. So the
mean of the ranks' losses (and of the gradients, which DDP averages) equals the loss of the whole batch, as long as the
ranks' batches are of equal size. A mean over all valid pixels of a rank would weigh a pixel by how many valid pixels
its rank happened to draw, and a Dice over the pooled pixels of a rank does not average to that of the batch at all.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from data_modules.batch import IGNORE
from data_modules.errors import UserError


class ValidPixels(NamedTuple):
    """A batch flattened to one row a sample, ready to be summed along dimension 1.

    Attributes:
        logits: float32 or float64 ``(B, N)``, 0 where the pixel is ignored.
        truth: same dtype ``(B, N)``, 1 on the foreground, 0 elsewhere.
        valid: same dtype ``(B, N)``, 0 where the pixel is ignored, 1 elsewhere.
    """

    logits: Tensor
    truth: Tensor
    valid: Tensor


def valid_pixels(logits: Tensor, target: Tensor) -> ValidPixels:
    """Flatten a batch and neutralise its ignored pixels without indexing.

    Args:
        logits: ``(B, 1, *S)`` of any floating dtype, in two or three spatial dimensions or any other number.
        target: integer ``(B, *S)`` with 1 foreground and 255 ignore; every other value counts as background.

    Returns:
        The rows, in float32, or in float64 where the logits are.

    Raises:
        UserError: There are maps of several classes.
        ValueError: The shapes do not belong together or the logits are not floating.
    """
    if logits.ndim > 1 and logits.shape[1] > 1 and logits.shape[:1] + logits.shape[2:] == target.shape:
        raise UserError(
            f"model.loss is of one foreground, but the network has maps of {logits.shape[1]} classes: choose "
            "CrossEntropyLoss, or leave model.classes out"
        )
    if logits.ndim < 2 or logits.shape[1] != 1 or logits.shape[:1] + logits.shape[2:] != target.shape:
        raise ValueError(
            f"a loss takes logits (B, 1, *S) and a target (B, *S), but got logits {tuple(logits.shape)} "
            f"and target {tuple(target.shape)}"
        )
    if not logits.is_floating_point():
        raise ValueError(f"a loss takes floating logits, but got {logits.dtype}")
    # Sums over a megapixel overflow in half precision and lose digits in bfloat16; float64 stays for gradient checks.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    flat_target = target.flatten(1)
    keep = flat_target != IGNORE
    # Selecting before computing, as 0 × inf is NaN: an ignored pixel must not matter whatever the network says there.
    scores = torch.where(keep, logits.flatten(1).to(dtype), 0.0)
    return ValidPixels(scores, (flat_target == 1).to(dtype), keep.to(dtype))


def mean_over_valid(loss: Tensor, valid: Tensor) -> Tensor:
    """Average over the valid pixels of each sample, then over the samples.

    Args:
        loss: float ``(B, N)``, finite everywhere.
        valid: float ``(B, N)``, 0 or 1.

    Returns:
        Scalar; a sample without valid pixels counts as 0.
    """
    return ((loss * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()


def mean_over_weights(loss: Tensor, weight: Tensor) -> Tensor:
    """Average over each sample by the sum of its weights, then over the samples.

    Args:
        loss: float ``(B, N)``, finite everywhere.
        weight: float ``(B, N)``, 0 or more; 0 where a pixel is ignored.

    Returns:
        Scalar; a sample without weight counts as 0.
    """
    total = weight.sum(1)
    return ((loss * weight).sum(1) / torch.where(total > 0, total, 1.0)).mean()


def share_of_valid(chosen: Tensor, valid: Tensor) -> Tensor:
    """Compute the share of each sample's valid pixels that are chosen.

    Args:
        chosen: float ``(B, N)``, 0 or 1.
        valid: float ``(B, N)``, 0 or 1.

    Returns:
        ``(B, 1)``, 0–1; 0 for a sample without valid pixels.
    """
    return (chosen * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)
