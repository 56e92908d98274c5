"""Accuracy of a linear classifier on features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.callbacks.feature_probe import FeatureProbe, Features


def fit_linear(values: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """Weights of a multinomial logistic regression: the minimum of mean cross entropy + λ/2 · ‖W‖².

    The minimum is unique for λ > 0, but for a shift of all biases, so that nothing depends on a start; the bias is not
    penalised. In double precision.

    Args:
        values: ``float (N, F)``.
        labels: ``int64 (N,)``.
        penalty: λ > 0.

    Returns:
        ``float64 (F + 1, classes)``; the last row is the bias.
    """
    inputs = F.pad(values.double(), (0, 1), value=1.0)
    weights = torch.zeros(inputs.shape[1], int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ weights, labels) + penalty / 2 * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


class LinearProbe(FeatureProbe):
    """Logs ``val/linear``: share of held-out tiles whose label a linear classifier of the features finds.

    Features are standardised by those that it is fitted to.

    Args:
        penalty: λ of the squared weights.
        every_n_epochs: Epochs between two looks.

    Raises:
        UserError: if a number is not positive.
    """

    name = "val/linear"

    def __init__(self, penalty: float = 1e-2, every_n_epochs: int = 10) -> None:
        super().__init__(every_n_epochs)
        if not penalty > 0:
            raise UserError(f"LinearProbe: penalty must be above 0, but is {penalty}")
        self.penalty = penalty

    def accuracy(self, fit: Features, score: Features) -> float:
        """See :meth:`FeatureProbe.accuracy`."""
        mean = fit.values.mean(dim=0)
        # Features that never fire would be divided by 0.
        width = fit.values.std(dim=0, correction=0).clamp_min(1e-6)
        weights = fit_linear((fit.values - mean) / width, fit.labels, self.penalty)
        inputs = F.pad(((score.values - mean) / width).double(), (0, 1), value=1.0)
        return float(((inputs @ weights).argmax(dim=1) == score.labels).float().mean())
