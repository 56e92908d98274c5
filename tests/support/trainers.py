"""Stand-in for the trainer that Lightning attaches to a data module."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar, cast

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

Data = TypeVar("Data", bound=pl.LightningDataModule)


@dataclass(frozen=True)
class StandInTrainer:
    """All that data modules read from their trainer, without what a real one starts.

    Attributes:
        global_rank: Rank of this process.
        world_size: Number of ranks.
        verb: Verb that is running.
        max_epochs: Last epoch of the run plus 1.
        current_epoch: Epoch of the run.
        training: Whether a training step is running.
    """

    global_rank: int = 0
    world_size: int = 1
    verb: TrainerFn | None = None
    max_epochs: int | None = None
    current_epoch: int = 0
    training: bool = False

    @property
    def state(self) -> SimpleNamespace:
        """State of the run, as `trainer.state` of Lightning."""
        return SimpleNamespace(fn=self.verb)


def attach(data: Data, trainer: StandInTrainer) -> Data:
    """Attach a trainer to a data module, as Lightning does before it asks for loaders."""
    data.trainer = cast(pl.Trainer, trainer)
    return data


def attach_rank(data: Data, rank: int, world: int) -> Data:
    """Make a data module that of one of several ranks."""
    return attach(data, StandInTrainer(rank, world))
