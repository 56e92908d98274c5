"""Orders of loading: a function of (seed, epoch), shared out over the ranks."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import Sampler

from data_modules.grid import Shape
from data_modules.randomness import Purpose, stream
from data_modules.sampling import PatchSampling, Position
from data_modules.store import MosaicView


@dataclass(frozen=True)
class Patch:
    """One patch to be read.

    Attributes:
        mosaic: Position of its mosaic in the list of training mosaics.
        origin: First pixel, in px of the mosaic.
        index: Position in the global order of the epoch; augmentation is keyed by it.
    """

    mosaic: int
    origin: Shape
    index: int


class EpochSampler(Sampler[Patch]):
    """This rank's share of an epoch's patches.

    Every rank derives the same global order from (seed, epoch) and takes each ``world``-th patch of it. The order is
    lengthened from its own beginning to a multiple of ``world``, so that all ranks take the same number of steps.

    Attributes:
        epoch: The epoch that is drawn.
        first: Patches of this rank's share that are left out, as an interrupted run has trained on them.

    Args:
        sampling: How positions are chosen.
        mosaics: Training mosaics.
        size: Of a patch, in px.
        count: Patches per epoch over all ranks, where the sampling leaves it open.
        seed: Of the run.
        rank: Of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        sampling: PatchSampling,
        mosaics: Sequence[MosaicView],
        size: Shape,
        count: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._sampling, self._mosaics, self._size, self._count = sampling, mosaics, size, count
        self._seed, self._rank, self._world = seed, rank, world
        self.epoch = self.first = 0
        self._length = len(self._order())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def _order(self) -> list[Position]:
        random = stream(self._seed, Purpose.PATCHES, self.epoch)
        order = self._sampling.positions(self._mosaics, self._size, self._count, random)
        return list(itertools.islice(itertools.cycle(order), -(-len(order) // self._world) * self._world))

    def __iter__(self) -> Iterator[Patch]:
        order = self._order()
        for index in range(self._rank + self.first * self._world, len(order), self._world):
            yield Patch(*order[index], index)

    def __len__(self) -> int:
        return self._length // self._world


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
