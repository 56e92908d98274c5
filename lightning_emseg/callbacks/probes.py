"""Probes of an encoder's features on held-out tiles: nearest neighbours and a linear classifier."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.core.distributed import from_all_ranks, from_first_rank

ProbeBatch = Mapping[str, Tensor]
"""``image`` ``uint8 (B, 1, Y, X)``, ``label`` and ``index``, both ``int64 (B,)``."""


@runtime_checkable
class ProbeData(Protocol):
    """A data module that holds labelled tiles out."""

    def probe_batches(self) -> tuple[Iterator[ProbeBatch], Iterator[ProbeBatch]]:
        """This rank's share of the tiles to fit a probe to, and of those to score it on."""


@dataclass(frozen=True)
class Features:
    """Features of held-out tiles over all ranks, in an order that does not depend on their number.

    Attributes:
        values: ``float32 (N, F)``.
        labels: ``int64 (N,)``.
    """

    values: Tensor
    labels: Tensor


class FeatureProbe(pl.Callback, ABC):
    """Asks how well features tell labels apart that the encoder was not trained with.

    It looks before training begins, so that there is a random encoder to compare with (logged at step 0), after chosen
    epochs and after the last one. The module's ``forward`` must give features. Dropout and batch norm are in evaluation
    mode meanwhile, and nothing random is drawn.

    Args:
        every_n_epochs: Evaluate every n epochs.

    Raises:
        UserError: if that is not positive.
    """

    name: str
    """Under which the accuracy is logged."""

    def __init__(self, every_n_epochs: int = 10) -> None:
        if every_n_epochs < 1:
            raise UserError(f"{type(self).__name__}: every_n_epochs must be at least 1, but is {every_n_epochs}")
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def accuracy(self, fit: Features, score: Features) -> float:
        """Share of ``score`` whose label is found with the help of ``fit``, 0–1."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the encoder that training begins with.

        Raises:
            UserError: if the data holds no labelled tiles out.
        """
        if trainer.global_step == 0:
            value = self._look(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics({self.name: value}, step=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look, if it is time."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs:
            pl_module.log(self.name, self._look(trainer, pl_module), prog_bar=True)

    def _look(self, trainer: pl.Trainer, module: pl.LightningModule) -> float:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, ProbeData):
            raise UserError(f"{type(self).__name__} needs labelled tiles: take the data module Tiles, or leave it out")
        fit, score = (_encode_batches(module, batches) for batches in data.probe_batches())
        if not len(fit.labels) or not len(score.labels):
            raise UserError(
                f"{type(self).__name__}: no labelled tiles are held out: raise data.held_out until some label has two "
                "of them, or leave the probe out"
            )
        return from_first_rank(lambda: self.accuracy(fit, score))


def _encode_batches(module: pl.LightningModule, batches: Iterable[ProbeBatch]) -> Features:
    found: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]] = []
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    with torch.no_grad():
        for batch in batches:
            values = module(batch["image"].to(module.device)).float().cpu().numpy()
            found.append((batch["index"].numpy(), values, batch["label"].numpy()))
    for part, mode in modes:
        part.training = mode
    everywhere = [part for mine in from_all_ranks(lambda: found) for part in mine]
    if not everywhere:
        return Features(torch.zeros(0, 0), torch.zeros(0, dtype=torch.long))
    index, values, labels = (np.concatenate(column) for column in zip(*everywhere, strict=True))
    order = np.argsort(index)
    return Features(torch.from_numpy(values[order]), torch.from_numpy(labels[order]))


_QUERIES = 1024
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
    for part in torch.split(F.normalize(queries, dim=1), _QUERIES):
        similarity, nearest = (part @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        votes = torch.zeros(len(part), classes).scatter_add_(1, fit.labels[nearest], (similarity / temperature).exp())
        found.append(votes.argmax(dim=1))
    return torch.cat(found)


class KNNProbe(FeatureProbe):
    """Logs ``val/knn``: share of held-out tiles whose label their nearest neighbours know.

    Args:
        neighbours: k.
        temperature: τ of the votes.
        every_n_epochs: Evaluate every n epochs.

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
        every_n_epochs: Evaluate every n epochs.

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
