"""Accuracy of a nearest-neighbour classifier on features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.callbacks.feature_probe import FeatureProbe, Features

_BATCH = 1024
"""Queries that are compared at once."""


def knn_labels(fit: Features, queries: Tensor, neighbours: int, temperature: float) -> Tensor:
    """Labels by a weighted vote of the nearest (Wu et al. 2018, section 3.4).

    A neighbour at cosine similarity s votes with weight ``exp(s / τ)``; among equal votes the smallest label wins.

    Args:
        fit: Those who vote.
        queries: ``float (N, F)``.
        neighbours: k; all vote where there are fewer.
        temperature: τ.

    Returns:
        ``int64 (N,)``.
    """
    bank = F.normalize(fit.values, dim=1)
    classes = int(fit.labels.max()) + 1
    found = []
    for part in torch.split(F.normalize(queries, dim=1), _BATCH):
        similarity, nearest = (part @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        votes = torch.zeros(len(part), classes).scatter_add_(1, fit.labels[nearest], (similarity / temperature).exp())
        found.append(votes.argmax(dim=1))
    return torch.cat(found)


class KNNProbe(FeatureProbe):
    """Logs ``val/knn``: share of held-out tiles whose label their nearest neighbours know.

    Args:
        neighbours: k.
        temperature: τ of the votes.
        every_n_epochs: Epochs between two looks.

    Raises:
        UserError: if a number is not positive.
    """

    name = "val/knn"

    def __init__(self, neighbours: int = 20, temperature: float = 0.07, every_n_epochs: int = 10) -> None:
        super().__init__(every_n_epochs)
        if neighbours < 1 or not temperature > 0:
            raise UserError(f"KNNProbe: neighbours and temperature must be positive, got {neighbours}, {temperature}")
        self.neighbours, self.temperature = neighbours, temperature

    def accuracy(self, fit: Features, score: Features) -> float:
        """See :meth:`FeatureProbe.accuracy`."""
        labels = knn_labels(fit, score.values, self.neighbours, self.temperature)
        return float((labels == score.labels).float().mean())
