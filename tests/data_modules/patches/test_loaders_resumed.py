"""A loader that goes on where another of the same epoch stopped."""

import itertools
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.batch import Batch
from data_modules.patches.dataset import PatchDataset
from data_modules.patches.loaders import EpochSampler, ResumableLoader
from data_modules.patches.sampling import RandomPatches
from data_modules.store import MosaicView
from tests.support.mosaic_checks import views, write_random

SMALL_PATCH = (32, 32)
Loader = TypeVar("Loader", bound=DataLoader[Batch])


@pytest.fixture(scope="module")
def one_mosaic(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    store: Path = tmp_path_factory.mktemp("resumable") / "s"
    write_random(store, {"train/a": (100, 140)})
    return views(store)


def as_it_is(batch: Any) -> Any:
    return batch


def make(one_mosaic: list[MosaicView], kind: type[Loader], workers: int = 0) -> tuple[EpochSampler, Loader]:
    sampler = EpochSampler(RandomPatches(), one_mosaic, SMALL_PATCH, 13, 3, seed=1)
    context = "forkserver" if workers else None
    loader = kind(
        PatchDataset(one_mosaic, SMALL_PATCH),
        batch_size=3,
        sampler=sampler,
        collate_fn=as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=context,
    )
    return sampler, loader


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[key], b[key])
        for a, b in zip(one, other, strict=True)
        for key in ("image", "mask", "origin", "index")
    )


def plain(one_mosaic: list[MosaicView], epoch: int) -> list[Batch]:
    sampler, loader = make(one_mosaic, DataLoader)
    sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize(
    ("stop", "workers"),
    [(0, 0), (1, 0), (4, 0), (5, 0), (1, 1), pytest.param(5, 1, marks=pytest.mark.slow)],
)
def test_a_resumed_epoch_is_followed_by_whole_ones(one_mosaic: list[MosaicView], stop: int, workers: int) -> None:
    sampler, loader = make(one_mosaic, ResumableLoader)
    sampler.set_epoch(3)
    assert len(list(itertools.islice(loader, stop))) == stop
    state = loader.state_dict()

    sampler, resumed = make(one_mosaic, ResumableLoader, workers)
    resumed.load_state_dict(state)
    # Lightning asks for an iterator before it says which epoch it is.
    rest = iter(resumed)
    sampler.set_epoch(3)
    assert len(resumed) == 5, "an epoch keeps its length, from which Lightning tells the last batch"
    assert same(list(rest), plain(one_mosaic, 3)[stop:])
    assert resumed.state_dict() == {"epoch": 3, "batches": 5}
    sampler.set_epoch(4)
    assert same(list(resumed), plain(one_mosaic, 4))


def test_a_run_may_stop_twice_in_an_epoch(one_mosaic: list[MosaicView]) -> None:
    states = [{"epoch": 2, "batches": 0}]
    for _ in range(2):
        sampler, loader = make(one_mosaic, ResumableLoader)
        loader.load_state_dict(states[-1])
        sampler.set_epoch(2)
        next(iter(loader))
        states.append(loader.state_dict())
    assert [state["batches"] for state in states] == [0, 1, 2]
