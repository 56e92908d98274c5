"""InfoNCE over a queue of earlier keys, the loss of momentum contrast."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrast_logits(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Similarities of each query to its own key and to all keys in the queue, over the temperature.

    They are computed in single precision whatever the precision of training: bfloat16 has steps of 0.03 at τ = 0.2.

    Args:
        query: ``(B, D)`` of length 1 each; the only part that gradients flow into.
        key: ``(B, D)``, likewise, of the same images.
        queue: ``(D, K)``, likewise.
        temperature: τ > 0.

    Returns:
        ``float32 (B, 1 + K)`` (``float64`` for such queries); column 0 is the query's own key (He et al. 2020,
        algorithm 1).
    """
    with torch.autocast(query.device.type, enabled=False):
        query = query if query.dtype == torch.float64 else query.float()
        key, queue = key.detach().to(query.dtype), queue.detach().to(query.dtype)
        own = (query * key).sum(dim=1, keepdim=True)
        return torch.cat([own, query @ queue], dim=1) / temperature


def info_nce_loss(logits: Tensor) -> Tensor:
    """Mean of ``−log(exp l₀ / Σⱼ exp lⱼ)`` (van den Oord et al. 2018; He et al. 2020, eq. 1).

    Args:
        logits: ``(B, 1 + K)`` of :func:`contrast_logits`.

    Returns:
        Scalar ≥ 0.

    >>> round(info_nce_loss(torch.zeros(2, 8)).item(), 4)  # nothing told apart: ln 8
    2.0794
    """
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def share_told_apart(logits: Tensor) -> Tensor:
    """Share of queries, 0–1, that resemble their own key more than any other of the queue."""
    return (logits[:, :1] > logits[:, 1:]).all(dim=1).float().mean()
