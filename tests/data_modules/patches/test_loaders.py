"""Where patches lie: the same order whoever asks, shared out over ranks, and as random as promised."""

import itertools
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.batch import Batch
from data_modules.patches.dataset import PatchDataset
from data_modules.patches.loaders import EpochSampler, Patch, ResumableLoader, SomeEpochs
from data_modules.patches.sampling import (
    FixedPatches,
    ForegroundPatches,
    GridPatches,
    PatchSampling,
    Position,
    RandomPatches,
)
from data_modules.store import MosaicView
from tests.support.store_checks import views, write_random

SIZES: dict[str, tuple[int, ...]] = {"train/a": (200, 300), "train/b": (64, 64), "train/c": (100, 400)}
PATCH = (64, 64)


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    store = tmp_path_factory.mktemp("samplers") / "s"
    write_random(store, SIZES)
    return views(store)


SAMPLINGS = [
    RandomPatches(),
    GridPatches(0.5),
    ForegroundPatches(0.2, 0.5),
    FixedPatches([(0, (y, 7)) for y in range(101)]),
]


def epoch(
    sampling: PatchSampling,
    mosaics: list[MosaicView],
    number: int = 0,
    seed: int = 5,
    rank: int = 0,
    world: int = 1,
    batch: int = 1,
) -> list[Patch]:
    sampler = EpochSampler(sampling, mosaics, PATCH, 101, batch, seed, rank, world)
    sampler.set_epoch(number)
    patches = list(sampler)
    assert len(patches) == len(sampler)
    return patches


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: type(sampling).__name__)
def test_seed_and_epoch_determine_the_order(sampling: PatchSampling, mosaics: list[MosaicView]) -> None:
    first = epoch(sampling, mosaics)
    np.random.default_rng().random()
    np.random.seed(1)  # noqa: NPY002  the global state must not matter
    assert epoch(sampling, mosaics) == first
    assert epoch(sampling, mosaics, number=3) == epoch(sampling, mosaics, number=3)
    others = [epoch(sampling, mosaics, number=1), epoch(sampling, mosaics, seed=6)]
    assert all([patch.origin for patch in other] != [patch.origin for patch in first] for other in others)


def test_iterating_twice_gives_the_same_epoch(mosaics: list[MosaicView]) -> None:
    sampler = EpochSampler(RandomPatches(), mosaics, PATCH, 20, 4, 0)
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize("batch", [1, 4, 50])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: type(sampling).__name__)
def test_ranks_share_the_global_order_out(
    sampling: PatchSampling, mosaics: list[MosaicView], world: int, batch: int
) -> None:
    order = epoch(sampling, mosaics, number=2)
    shares = [epoch(sampling, mosaics, number=2, rank=rank, world=world, batch=batch) for rank in range(world)]
    steps = {-(-len(share) // batch) for share in shares}
    assert len(steps) == 1, "ranks of unequal steps would wait for each other for ever"
    counted = sorted((patch for share in shares for patch in share if patch.weight), key=lambda patch: patch.index)
    assert [(p.mosaic, p.origin, p.index) for p in counted] == [(p.mosaic, p.origin, p.index) for p in order]
    for step in range(steps.pop()):
        of_ranks = [share[step * batch : (step + 1) * batch] for share in shares]
        together = {patch.index for patches in of_ranks for patch in patches if patch.weight}
        assert together == set(range(step * batch * world, min((step + 1) * batch * world, len(order))))
        assert {patch.together for patches in of_ranks for patch in patches} == {len(together)}
        # The mean over ranks of their weighted means is the mean over patches.
        for patches in of_ranks:
            counts = len([patch for patch in patches if patch.weight])
            assert [patch.weight for patch in patches] == [counts * world / len(together)] * len(patches)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 1, 6, 26])
def test_a_share_can_begin_anywhere(mosaics: list[MosaicView], world: int, first: int) -> None:
    for rank in range(world):
        whole = epoch(RandomPatches(), mosaics, number=2, rank=rank, world=world, batch=4)
        sampler = EpochSampler(RandomPatches(), mosaics, PATCH, 101, 4, 5, rank, world)
        sampler.set_epoch(2)
        sampler.first = first
        assert list(sampler) == whole[4 * first :]


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_without_patches_repeat_one_with_weight_0(mosaics: list[MosaicView], world: int) -> None:
    sampling = FixedPatches([(0, (0, 0)), (1, (0, 0))])
    shares = [epoch(sampling, mosaics, rank=rank, world=world) for rank in range(world)]
    assert [[patch.weight for patch in share] for share in shares] == [[world / 2]] * 2 + [[0.0]] * (world - 2)
    assert [share[0].index for share in shares] == [0, 1] + [0] * (world - 2)


@pytest.mark.parametrize("sampling", SAMPLINGS[:3], ids=lambda sampling: type(sampling).__name__)
def test_patches_lie_inside_their_mosaic(sampling: PatchSampling, mosaics: list[MosaicView]) -> None:
    for patch in epoch(sampling, mosaics):
        for first, extent, side in zip(patch.origin, PATCH, mosaics[patch.mosaic].shape, strict=True):
            assert isinstance(first, int)
            assert 0 <= first <= side - extent


def test_every_position_comes_equally_often(mosaics: list[MosaicView]) -> None:
    """Chi-square over mosaics, and over rows and columns of one; a mosaic weighs as many patches as it holds."""
    count = 20_000
    drawn = RandomPatches().positions(mosaics, PATCH, count, np.random.default_rng(0))
    room = np.array([(a - 63) * (b - 63) for a, b in SIZES.values()])
    seen = np.bincount([mosaic for mosaic, _ in drawn], minlength=3)
    expected = count * room / room.sum()
    # 13.8 is the 0.999 quantile of chi-square with 2 degrees of freedom.
    assert ((seen - expected) ** 2 / expected).sum() < 13.8
    inside = np.array([origin for mosaic, origin in drawn if mosaic == 0])
    for axis, side in enumerate(SIZES["train/a"]):
        seen = np.bincount(inside[:, axis], minlength=side - 63)
        assert len(seen) == side - 63, "the last position is drawn too"
        degrees = len(seen) - 1
        statistic = ((seen - seen.mean()) ** 2 / seen.mean()).sum()
        assert abs(statistic - degrees) < 4 * np.sqrt(2 * degrees)


def test_small_mosaics_are_read_from_their_corner(mosaics: list[MosaicView]) -> None:
    drawn = RandomPatches().positions([mosaics[1]], (100, 32), 50, np.random.default_rng(0))
    assert {origin[0] for _, origin in drawn} == {0}
    assert len({origin[1] for _, origin in drawn}) > 10


def test_a_grid_gives_every_tile_once(mosaics: list[MosaicView]) -> None:
    patches = epoch(GridPatches(0.5), mosaics)

    def starts(side: int) -> list[int]:
        return sorted({min(first, side - 64) for first in range(0, side - 32, 32)})

    expected = {
        (number, (y, x))
        for number, (a, b) in enumerate(SIZES.values())
        for y in starts(a)
        for x in starts(b)
    }  # fmt: skip
    assert {(patch.mosaic, patch.origin) for patch in patches} == expected
    assert len(patches) == len(expected)


def test_fixed_patches_come_once_each(mosaics: list[MosaicView]) -> None:
    given: list[Position] = [(0, (1, 2)), (2, (3, 4)), (1, (0, 0))]
    drawn = FixedPatches(given).positions(mosaics, PATCH, 99, np.random.default_rng(0))
    assert sorted(drawn) == sorted(given)


def test_some_epochs_are_every_nth_and_last() -> None:
    sampler = SomeEpochs(4, every=3, last=6)
    due = []
    for epoch in range(7):
        sampler.set_epoch(epoch)
        due.append(list(sampler))
    assert [epoch for epoch, items in enumerate(due) if items] == [2, 5, 6]
    assert due[2] == [0, 1, 2, 3]


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
