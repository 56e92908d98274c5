"""The random forest that a network has to beat at telling informative tiles from others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torchmetrics.functional.classification import binary_auroc

from lightning_emseg.curation.statistics import NAMES
from lightning_emseg.curation.tile_values import Values


@dataclass(frozen=True)
class Forest:
    """A fitted forest.

    Attributes:
        model: Of scikit-learn.
        auroc: Area under the receiver operating characteristic on held-out tiles, 0–1.
    """

    model: Any
    auroc: float

    def probability(self, statistics: Values) -> NDArray[np.float32]:
        """That tiles are informative, ``float32 (N,)``; NaN where the statistics ``(N, 4)`` are."""
        found = np.full(len(statistics), np.nan, np.float32)
        known = ~np.isnan(statistics).any(axis=1)
        if known.any():
            found[known] = self.model.predict_proba(statistics[known])[:, 1]
        return found

    def importances(self) -> Mapping[str, float]:
        """Mean decrease of impurity by statistic; they sum to 1."""
        return dict(zip(NAMES, self.model.feature_importances_.tolist(), strict=True))


def fit_forest(
    train: tuple[Values, NDArray[np.int64]], held_out: tuple[Values, NDArray[np.int64]], seed: int, workers: int
) -> Forest:
    """Fit to the training labels and score on the held-out ones.

    Of 100 trees of at most 8 levels that split 8 tiles or more and weigh both classes the same, as in the published
    code of Conrad and Narayan (2021).

    Args:
        train: Statistics ``(N, 4)`` and labels ``(N,)``, 1 informative and 0 not, both of them present.
        held_out: Likewise.
        seed: Of the trees.
        workers: Threads.
    """
    model = RandomForestClassifier(
        100, max_depth=8, min_samples_split=8, class_weight="balanced", random_state=seed, n_jobs=workers
    )
    model.fit(*train)
    forest = Forest(model, 0.0)
    return Forest(model, auroc(forest.probability(held_out[0]), held_out[1]))


def auroc(probability: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Area under the receiver operating characteristic, 0–1; ties count half."""
    return float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(labels)))
