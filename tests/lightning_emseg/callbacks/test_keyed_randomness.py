"""Draws of a training batch depend on where training is, and on nothing that came before."""

import itertools
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lightning_emseg.callbacks.keyed_randomness import KeyedRandomness

nothing = cast(Any, None)


def draws(epoch: int, batch: int, rank: int) -> list[float]:
    trainer = cast(Any, SimpleNamespace(current_epoch=epoch, global_rank=rank))
    KeyedRandomness().on_train_batch_start(trainer, nothing, nothing, batch)
    return torch.rand(3).tolist()


@pytest.fixture(autouse=True)
def _torch_state() -> Any:
    with torch.random.fork_rng([]):
        yield


def test_draws_differ_by_epoch_batch_rank_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seed in ("0", "1"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        found += [tuple(draws(*key)) for key in itertools.product(range(3), range(3), range(3))]
    assert len(set(found)) == 2 * 27


def test_draws_do_not_depend_on_earlier_draws() -> None:
    once = draws(2, 5, 1)
    torch.rand(17)
    assert draws(2, 5, 1) == once
