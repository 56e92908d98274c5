from typing import Any

import pytest
import torch
from captum.attr import DeepLift
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum_methods.disjoint_pools import separate_windows

POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


@given(
    axes=st.sampled_from([1, 2, 3]),
    kernel=st.integers(2, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    extra=st.integers(0, 4),
    seed=st.integers(0, 100),
)
@example(axes=2, kernel=3, stride=2, padding=1, extra=1, seed=0)
@example(axes=3, kernel=3, stride=1, padding=0, extra=2, seed=0)
@example(axes=1, kernel=2, stride=2, padding=1, extra=3, seed=0)
def test_separate_windows_give_the_same_maxima(
    axes: int, kernel: int, stride: int, padding: int, extra: int, seed: int
) -> None:
    pool = POOLS[axes](kernel, stride, padding)
    network = nn.Sequential(pool)
    torch.manual_seed(seed)
    image = torch.randn(2, 3, *(kernel + extra + axis for axis in range(axes)))
    separate_windows(network)
    assert torch.equal(network(image), pool(image))
    assert (network[0] is pool) == (kernel <= stride)


def test_unequal_sides_are_kept_apart() -> None:
    pool = nn.MaxPool2d((3, 2), (1, 2), (1, 0))
    network = nn.Sequential(pool)
    separate_windows(network)
    image = torch.randn(1, 1, 7, 8)
    assert torch.equal(network(image), pool(image))


class SumOfPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool1d(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        sums: Tensor = self.pool(x.clone()).sum(dim=-1)
        return sums


def test_input_winning_several_windows_gets_all_shares() -> None:
    window, baseline = torch.tensor([[[0.0, 1.0, 9.0, 2.0, 0.0]]]), torch.zeros(1, 1, 5)
    network = SumOfPool()
    # All three windows hold the 9.
    expected = torch.tensor([[[0.0, 0.0, 27.0, 0.0, 0.0]]])
    # What it is for: captum alone keeps one of three shares.
    assert DeepLift(network).attribute(window, baseline, target=0)[0, 0, 2] == 9
    separate_windows(network)
    assert torch.equal(DeepLift(network).attribute(window, baseline, target=0), expected)


def test_padding_wins_nothing_even_below_negative_values() -> None:
    pool = nn.MaxPool2d(3, 2, 1)
    network = nn.Sequential(pool)
    separate_windows(network)
    image = -1e6 - torch.rand(1, 2, 6, 6)
    assert torch.equal(network(image), pool(image))


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(3, 2, dilation=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, 1, return_indices=True)],
)
def test_pools_that_cannot_be_laid_out_are_refused(pool: nn.Module) -> None:
    with pytest.raises(UserError, match=r"MaxPool2d\(.*overlaps and is dilated, rounds up or returns indices"):
        separate_windows(nn.Sequential(pool))
