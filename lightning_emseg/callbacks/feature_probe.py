"""What probes of an encoder's features share: when they look, and at which tiles."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
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
        every_n_epochs: Epochs between two looks.

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
        fit, score = (_features(module, batches) for batches in data.probe_batches())
        if not len(fit.labels) or not len(score.labels):
            raise UserError(
                f"{type(self).__name__}: no labelled tiles are held out: raise data.held_out until some label has two "
                "of them, or leave the probe out"
            )
        return from_first_rank(lambda: self.accuracy(fit, score))


def _features(module: pl.LightningModule, batches: Iterable[ProbeBatch]) -> Features:
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
