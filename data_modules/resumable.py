"""A loader that goes on in the middle of an epoch."""

from typing import Any

from torch.utils.data import DataLoader

from data_modules.batch import Batch
from data_modules.samplers import EpochSampler


class ResumableLoader(DataLoader[Batch]):
    """Batches of an :class:`~data_modules.samplers.EpochSampler`; Lightning keeps its position in checkpoints.

    It begins with the first batch that is asked for, and not when it is asked for an iterator: Lightning does that
    before it has said which epoch a resumed run is in, and loader processes would set out on another epoch's patches.
    """

    _given = 0
    _resumed = (-1, 0)

    def __iter__(self) -> Any:
        """Batches; a generator, where torch has a class of its own."""
        order = self._order()
        epoch, batches = self._resumed
        self._given = batches if epoch == order.epoch else 0
        order.first = self._given
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and how many of its batches this rank has handed out."""
        return {"epoch": self._order().epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches of ``state`` when its epoch comes; every other epoch is whole."""
        self._resumed = (state["epoch"], state["batches"])

    def _order(self) -> EpochSampler:
        assert isinstance(self.sampler, EpochSampler)
        return self.sampler
