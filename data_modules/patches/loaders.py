"""Loading orders, shared out over the ranks, and loaders of whole batches."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.geometry import Shape
from data_modules.patches.sampling import PatchSampling, Position
from data_modules.randomness import Purpose, stream
from data_modules.store import MosaicView


@dataclass(frozen=True)
class Patch:
    """One patch to be read.

    Attributes:
        mosaic: Position of its mosaic in the list of training mosaics.
        origin: First pixel, in px of the mosaic.
        index: Position in the global order of the epoch; augmentation is keyed by it.
        weight: Weight of the loss of this rank's batch in the mean over ranks; 0 for a patch that only keeps a rank
            company that has none.
        together: Number of patches of all ranks in the step.
    """

    mosaic: int
    origin: Shape
    index: int
    weight: float = 1.0
    together: int = 1


class EpochSampler(Sampler[Patch]):
    """This rank's share of an epoch's patches.

    Every rank derives the same global order from (seed, epoch). A step takes the next ``world * batch_size`` patches of
    it, of which a rank takes each ``world``-th. Where the last step has fewer, so that ranks have unequal shares of it,
    their losses are weighted to the mean over its patches. A rank without any is given its first patch, with weight 0,
    since all ranks have to take the step.

    Attributes:
        epoch: Epoch that is drawn.
        first: Steps that are left out, as an interrupted run has taken them.

    Args:
        sampling: Placement of patches.
        mosaics: Training mosaics.
        size: Size of a patch in px.
        count: Patches per epoch over all ranks, where the sampling leaves it open.
        batch_size: Patches of a rank in a step.
        seed: Random seed of the run.
        rank: Rank of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        sampling: PatchSampling,
        mosaics: Sequence[MosaicView],
        size: Shape,
        count: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._sampling, self._mosaics, self._size, self._count = sampling, mosaics, size, count
        self._batch_size, self._seed, self._rank, self._world = batch_size, seed, rank, world
        self.epoch = self.first = 0
        self._length = len(self._order())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def _order(self) -> list[Position]:
        random = stream(self._seed, Purpose.PATCHES, self.epoch)
        return self._sampling.positions(self._mosaics, self._size, self._count, random)

    def __iter__(self) -> Iterator[Patch]:
        order = self._order()
        step = self._batch_size * self._world
        for start in range(self.first * step, len(order), step):
            together = min(step, len(order) - start)
            mine = range(start + self._rank, start + together, self._world)
            weight = len(mine) * self._world / together
            for index in mine or [start]:
                yield Patch(*order[index], index, weight, together)

    def __len__(self) -> int:
        steps, rest = divmod(self._length, self._batch_size * self._world)
        return steps * self._batch_size + (max(1, len(range(self._rank, rest, self._world))) if rest else 0)


class SomeEpochs(Sampler[int]):
    """All items in order in every n-th epoch and in the last one, none in the others.

    Args:
        length: Number of items.
        every: Epochs between two that count.
        last: Index of the last epoch.
    """

    def __init__(self, length: int, every: int, last: int) -> None:
        self._length, self._every, self._last = length, every, last
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        due = (self._epoch + 1) % self._every == 0 or self._epoch == self._last
        return iter(range(self._length if due else 0))

    def __len__(self) -> int:
        return self._length


class ResumableLoader(DataLoader[Batch]):
    """Batches of an :class:`~data_modules.patches.loaders.EpochSampler`; Lightning keeps its position in checkpoints.

    It begins with the first batch that is asked for, and not when it is asked for an iterator: Lightning does that
    before it has said which epoch a resumed run is in, and loader processes would set out on another epoch's patches.
    """

    sampler: EpochSampler
    _given = 0
    _resumed = (-1, 0)

    def __iter__(self) -> Any:
        """Iterate over batches; a generator, where torch has a class of its own."""
        epoch, batches = self._resumed
        self._given = batches if epoch == self.sampler.epoch else 0
        self.sampler.first = self._given
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and how many of its batches this rank has handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches of ``state`` when its epoch comes; every other epoch is whole."""
        self._resumed = (state["epoch"], state["batches"])


def make_loader(
    dataset: Dataset[Batch],
    num_workers: int,
    batch_size: int | None = None,
    sampler: EpochSampler | SomeEpochs | None = None,
    kind: type[DataLoader[Batch]] = DataLoader,
) -> DataLoader[Batch]:
    """Build a loader whose dataset makes whole batches.

    Args:
        dataset: Dataset whose items are batches, or that makes one of several items at once.
        num_workers: Number of loader processes.
        batch_size: Items that the dataset is asked for at once, or ``None`` where each is a batch.
        sampler: Order of items; all of them in order by default.
        kind: Class of the loader.
    """
    return kind(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=default_convert,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Tensorstore's threads do not survive a fork.
        multiprocessing_context="forkserver" if num_workers else None,
    )


T = TypeVar("T")


class RunShare:
    """Seed and ranks of a data module's run; a mixin."""

    trainer: Any
    _seed: int | None

    @property
    def seed(self) -> int:
        """Random seed of the data: the module's own, else the run's ``seed_everything``, else 0."""
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self._seed is None else self._seed

    @property
    def rank_and_world(self) -> tuple[int, int]:
        """Rank of this process and number of all; 0 and 1 without a trainer."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def require_setup(made: T | None) -> T:
    """Return what ``setup`` has made.

    Raises:
        UserError: if it did not run yet.
    """
    if made is None:
        raise UserError("the data module is not set up: call setup('fit') or use it through a Trainer")
    return made
