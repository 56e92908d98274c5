import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum_networks import call_modules_once, separate_pool_windows
from lightning_emseg.attribution.network import PixelOutput
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.smp_model import LinkNet
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.networks.wrappers import MultiScaleInput
from tests.support.attribution_checks import settled

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vanilla U-Net": lambda: VanillaUNet(base_channels=4, depth=3),
    "U-Net with scSE": lambda: UNet(encoder="resnet18", decoder_attention="scse"),
    "two scales": lambda: MultiScaleInput(VanillaUNet(base_channels=4, depth=2).network, (0.5, 1.0), stride=4),
    "hypercolumns": lambda: LinkNet(encoder="resnet18", hypercolumns=True),
    "CASENet": lambda: CASENet("resnet18"),
}


class Twice(nn.Module):
    """One ReLU, in place, after each of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.relu(self.second(self.relu(self.first(x))))
        return answers


class PooledAndKept(nn.Module):
    """A feature map that is pooled and handed on, as in every U-Net."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.pool = layer, nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layer(x)
        return torch.cat([self.pool(features), features], dim=-1).sum(dim=-1)


class Loop(nn.Module):
    """Calls its ReLU as often as the input says."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.sum())):
            x = self.relu(x)
        return x


def calls_of(network: nn.Module, example: Tensor) -> dict[nn.Module, int]:
    counts = {module: 0 for module in network.modules() if not list(module.children())}

    def count(module: nn.Module, *_: object) -> None:
        counts[module] += 1

    for leaf in counts:
        leaf.register_forward_pre_hook(count)
    network(example)
    return counts


@pytest.mark.parametrize("name", NETWORKS)
def test_rewritten_networks_call_each_module_once(name: str) -> None:
    torch.manual_seed(0)
    network = PixelOutput(settled(NETWORKS[name](), 32))
    example = torch.rand(1, 1, 32, 32) * 255
    copied = call_modules_once(network, example)
    other = torch.rand(2, 1, 32, 32) * 255
    with torch.no_grad():
        for window in (example, other):
            torch.testing.assert_close(copied(window), network(window), rtol=1e-5, atol=1e-6)
    assert max(calls_of(copied, example).values()) == 1
    assert not any(getattr(module, "inplace", False) for module in copied.modules())
    assert max(calls_of(network, example).values()) > 1 or name == "vanilla U-Net" or "CASENet" in name


@pytest.mark.parametrize("training", [False, True])
def test_the_original_is_untouched(training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), shared := nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1))
    network.append(shared).train(training)
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    example = torch.rand(1, 1, 8, 8)
    kept = example.clone()
    copied = call_modules_once(network, example)
    copied(example * 2)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(example, kept)
    assert example.requires_grad is False
    assert network[2] is shared
    assert network[4] is shared
    assert shared.inplace
    assert all(module.training is training for module in network.modules())
    assert [weight.requires_grad for weight in network.parameters()] == [False, *[True] * 5]
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in network.modules())
    weights = {weight.data_ptr() for weight in network.parameters()}
    assert not weights & {weight.data_ptr() for weight in copied.parameters()}


def test_the_copy_is_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9)).train()
    copied = call_modules_once(network, torch.rand(1, 4))
    window = torch.rand(2, 4)
    assert torch.equal(copied(window), network[0](window))


def test_network_of_one_module_can_be_copied() -> None:
    copied = call_modules_once(nn.ReLU(inplace=True), torch.tensor([[-1.0, 2.0]]))
    assert copied(torch.tensor([[3.0, -4.0]])).tolist() == [[3.0, 0.0]]


def test_reused_relu_gets_rescale_rule_twice() -> None:
    torch.manual_seed(3)
    network = Twice().eval()
    window, baseline = torch.randn(1, 3), torch.randn(1, 3)
    hidden, hidden_0 = network.first(window), network.first(baseline)
    answer, answer_0 = network.second(F.relu(hidden)), network.second(F.relu(hidden_0))
    # Shrikumar et al. 2017, eq. 13: the multiplier of a non-linear step is the ratio of the differences.
    inner = (F.relu(hidden) - F.relu(hidden_0)) / (hidden - hidden_0)
    outer = (F.relu(answer) - F.relu(answer_0)) / (answer - answer_0)
    copied = call_modules_once(network, window)
    for target in (0, 1):
        weights = (network.second.weight[target] * inner[0]) @ network.first.weight * outer[0, target]
        expected = weights * (window - baseline)
        torch.testing.assert_close(DeepLift(copied).attribute(window, baseline, target=target), expected)


@pytest.mark.parametrize(
    ("layer", "handed_on"), [(nn.ReLU(), [2.0, -1.0, 0.0, 5.0]), (nn.BatchNorm1d(1, eps=0.0), [2.0, -1.0, -2.0, 5.0])]
)
def test_pooled_and_reused_map_keeps_both_shares(layer: nn.Module, handed_on: list[float]) -> None:
    network = PooledAndKept(layer).eval()
    window, baseline = torch.tensor([[[3.0, 1.0, -2.0, 5.0]]]), torch.tensor([[[1.0, 2.0, 0.0, 0.0]]])
    # The first maximum goes from 2 to 3, the second from 0 to 5, which pixels 0 and 3 bring about.
    expected = torch.tensor([[[1.0, 0.0, 0.0, 5.0]]]) + torch.tensor(handed_on)
    copied = call_modules_once(network, window)
    torch.testing.assert_close(DeepLift(copied).attribute(window, baseline, target=0), expected)
    # What it is for: captum alone forgets the rule for the pool, or what was handed on.
    assert not torch.allclose(DeepLift(network).attribute(window, baseline, target=0), expected)


def test_each_pass_starts_afresh_after_a_failure() -> None:
    network = Twice().eval()
    copied = call_modules_once(network, torch.rand(1, 3))
    second = copied.get_submodule("0.second")
    handle = second.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        copied(torch.rand(1, 3))
    handle.remove()
    window = torch.rand(5, 3)
    assert torch.equal(copied(window), network(window))


def test_copies_of_the_copy_are_independent() -> None:
    copied = call_modules_once(Twice(), torch.rand(1, 3))
    again = copy.deepcopy(copied)
    window = torch.rand(2, 3)
    assert torch.equal(again(window), copied(window))


def test_networks_relying_on_in_place_steps_are_refused() -> None:
    class KeepsRectified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            self.relu(x)
            return x + 1

    with pytest.raises(UserError, match=r"KeepsRectified answers otherwise .* take InputXGradient"):
        call_modules_once(KeepsRectified(), torch.tensor([[-1.0, 2.0]]))


def test_networks_reading_reused_modules_are_refused() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            answers: Tensor = self.layer(self.layer(x)) + self.layer.in_features
            return answers

    with pytest.raises(UserError, match="Looks reads attributes of a module"):
        call_modules_once(Looks(), torch.rand(1, 2))


def test_input_dependent_control_flow_is_refused() -> None:
    copied = call_modules_once(Loop(), torch.tensor([[2.0]]))
    with pytest.raises(UserError, match="ReLU is called more than 2 times"):
        copied(torch.tensor([[3.0]]))


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
    separate_pool_windows(network)
    assert torch.equal(network(image), pool(image))
    assert (network[0] is pool) == (kernel <= stride)


def test_unequal_sides_are_kept_apart() -> None:
    pool = nn.MaxPool2d((3, 2), (1, 2), (1, 0))
    network = nn.Sequential(pool)
    separate_pool_windows(network)
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
    separate_pool_windows(network)
    assert torch.equal(DeepLift(network).attribute(window, baseline, target=0), expected)


def test_padding_wins_nothing_even_below_negative_values() -> None:
    pool = nn.MaxPool2d(3, 2, 1)
    network = nn.Sequential(pool)
    separate_pool_windows(network)
    image = -1e6 - torch.rand(1, 2, 6, 6)
    assert torch.equal(network(image), pool(image))


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(3, 2, dilation=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, 1, return_indices=True)],
)
def test_pools_that_cannot_be_laid_out_are_refused(pool: nn.Module) -> None:
    with pytest.raises(UserError, match=r"MaxPool2d\(.*overlaps and is dilated, rounds up or returns indices"):
        separate_pool_windows(nn.Sequential(pool))
