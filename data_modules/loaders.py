"""Loaders of whole batches."""

import torch
from torch.utils.data import DataLoader, Dataset

from data_modules.batch import Batch
from data_modules.samplers import EpochSampler, SomeEpochs


def make_loader(
    dataset: Dataset[Batch],
    num_workers: int,
    batch_size: int | None = None,
    sampler: EpochSampler | SomeEpochs | None = None,
    kind: type[DataLoader[Batch]] = DataLoader,
) -> DataLoader[Batch]:
    """A loader whose dataset makes whole batches.

    Args:
        dataset: Its items are batches, or it makes one of several items at once.
        num_workers: Loader processes.
        batch_size: Items that the dataset is asked for at once, or ``None`` where each is a batch.
        sampler: Which items; all of them in order by default.
        kind: Of the loader.
    """
    return kind(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Tensorstore's threads do not survive a fork.
        multiprocessing_context="forkserver" if num_workers else None,
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch
