from collections.abc import Callable, Iterator

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from lightning_emseg.attribution.network import detached_copy, fold_batch_norms, single_precision
from lightning_emseg.networks.casenet import CASENet
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from tests.support.attribution_checks import settled


def settings() -> tuple[bool, bool, bool]:
    backends = torch.backends
    return backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, torch.is_autocast_enabled("cpu")


@pytest.fixture(params=[True, False])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    # Not `monkeypatch`, which would delete an attribute that the modules only make up.
    convolutions, products, _ = settings()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


def test_single_precision_overrides_settings_and_restores_them(tf32: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        around = settings()
        with single_precision(torch.device("cpu")):
            assert settings() == (False, False, False)
            assert (torch.ones(4, 4) @ torch.ones(4, 4)).dtype is torch.float32
        assert settings() == around == (tf32, tf32, True)


def test_settings_come_back_after_a_failure() -> None:
    before = settings()
    with pytest.raises(ValueError, match="broken"), single_precision(torch.device("cpu")):
        raise ValueError("broken")
    assert settings() == before


def in_training() -> nn.Module:
    """A network in the middle of it: gradients, modes that differ, a frozen weight, hooks."""
    torch.manual_seed(0)
    network = VanillaUNet(base_channels=4, depth=1)
    network(torch.randn(2, 1, 16, 16)).sum().backward()
    network.down[0].eval()
    next(network.parameters()).requires_grad_(False)
    return network


def state_of(network: nn.Module) -> list[tuple[object, ...]]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    found: list[tuple[object, ...]] = [
        (name, each.data_ptr(), each.dtype, each.requires_grad, each._version, each.clone().tolist())
        for name, each in tensors.items()
    ]
    found += [
        (n, None if p.grad is None else (p.grad.data_ptr(), p.grad.tolist())) for n, p in network.named_parameters()
    ]
    found += [(name, module.training, len(module._forward_hooks)) for name, module in network.named_modules()]
    return found


def test_copying_leaves_the_original_unchanged() -> None:
    network = in_training()
    calls: list[str] = []
    network.register_forward_hook(lambda *_: calls.append("forward"))
    head = network.get_submodule("head")
    head.register_forward_pre_hook(lambda *_: calls.append("before"))
    head.register_full_backward_hook(lambda *_: calls.append("backward"))
    next(head.parameters()).register_hook(lambda _: calls.append("weight"))  # type: ignore[no-untyped-call]
    before, random = state_of(network), torch.get_rng_state()
    copied = detached_copy(network, 127.5, 127.5)
    window = (torch.rand(1, 1, 16, 16) * 255).requires_grad_()
    torch.set_rng_state(random)
    copied(window).sum().backward()
    assert window.grad is not None
    assert state_of(network) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert calls == []
    network(torch.randn(2, 1, 16, 16)).sum().backward()
    assert sorted(calls) == ["backward", "before", "forward", "weight"]


def test_copy_is_frozen_in_evaluation_mode() -> None:
    network = in_training().to(torch.bfloat16)
    copied = detached_copy(network, 100.0, 50.0)
    assert not any(module.training for module in copied.modules())
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in copied.parameters())
    assert all(weight.grad is None for weight in copied.parameters())
    theirs = {weight.data_ptr() for weight in network.parameters()}
    assert theirs.isdisjoint(weight.data_ptr() for weight in copied.parameters())
    image = torch.rand(1, 1, 16, 16) * 255
    expected = network.float().eval()((image - 100) / 50)
    torch.testing.assert_close(copied(image), expected)


@pytest.mark.parametrize("made_there", [False, True])
def test_copy_made_in_inference_mode_gives_gradients(made_there: bool) -> None:
    network = settled(VanillaUNet(base_channels=4, depth=1), 16)
    image = torch.rand(1, 1, 16, 16) * 255
    with torch.inference_mode():
        if made_there:
            network = network.to(torch.float64).to(torch.float32)
            network.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
        copied = detached_copy(network, 127.5, 127.5)
    assert not any(each.is_inference() for each in (*copied.parameters(), *copied.buffers()))
    asked = image.clone().requires_grad_()
    copied(asked).sum().backward()
    assert asked.grad is not None
    assert asked.grad.abs().sum() > 0


def test_only_the_original_stays_compiled() -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        compiled.append(len(inputs))
        return graph.forward

    image = torch.rand(1, 1, 16, 16)
    inside = settled(VanillaUNet(base_channels=2, depth=1), 16)
    inside.compile(backend=backend)
    around = torch.compile(settled(VanillaUNet(base_channels=2, depth=1), 16), backend=backend)
    assert isinstance(around, nn.Module)
    for network in (inside, around):
        expected = network(image)
        count = len(compiled)
        copied = detached_copy(network, 0.0, 1.0)
        torch.testing.assert_close(copied(image), expected)
        copied(torch.rand(1, 1, 32, 32))
        assert len(compiled) == count
        torch.testing.assert_close(network(image), expected)
        assert len(compiled) == count
    torch._dynamo.reset()


class Scaled:
    """A hook that is part of the network's answer and has a state of its own."""

    def __init__(self) -> None:
        self.factor = torch.tensor(3.0)

    def __call__(self, module: nn.Module, inputs: object, answer: Tensor) -> Tensor:
        return answer * self.factor


def test_hooks_that_are_objects_are_copied() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(1, 1, 9, 9)
    network.register_forward_hook(hook := Scaled())
    expected = network(image)
    copied = detached_copy(network, 0.0, 1.0)
    hook.factor.zero_()
    torch.testing.assert_close(copied(image), expected)


def test_weight_norms_keep_working() -> None:
    network = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 3, padding=1))
    image = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(detached_copy(network, 0.0, 1.0)(image), network(image))


class Reversed(nn.Module):
    """A batch norm, then a convolution; its children are named the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

    def forward(self, window: Tensor) -> Tensor:
        return self.convolution(self.norm(window).relu())  # type: ignore[no-any-return]


class Tapped(Reversed):
    """The convolution's answer is wanted without its batch norm as well."""

    def forward(self, window: Tensor) -> Tensor:
        found: Tensor = self.convolution(window)
        return self.norm(found) + found  # type: ignore[no-any-return]


FOLDED: dict[str, Callable[[], nn.Module]] = {
    "LinkNet": lambda: smp.Linknet("resnet18", encoder_weights=None, in_channels=1),
    "VanillaUNet": lambda: VanillaUNet(base_channels=4, depth=2),
    "CASENet": lambda: CASENet("resnet18"),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(1, 3, 2, 2, bias=False), nn.BatchNorm2d(3, affine=False)),
}


def norms_of(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) for module in network.modules())


def lively(network: nn.Module) -> nn.Module:
    """Batch norms whose weights are not what they start with."""
    for module in settled(network, 32).modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


@pytest.mark.parametrize("name", FOLDED)
def test_folding_removes_batch_norms_and_keeps_answers(name: str) -> None:
    torch.manual_seed(1)
    network = lively(FOLDED[name]()).requires_grad_(False)
    before = norms_of(network)
    assert before > 0
    example, other = torch.rand(1, 1, 32, 32), 3 * torch.rand(2, 1, 32, 64)
    found = fold_batch_norms(network, example)
    assert norms_of(found) == 0
    assert norms_of(network) == before
    assert not any(weight.requires_grad for weight in found.parameters())
    for window in (example, other):
        expected = network(window)
        assert float((found(window) - expected).abs().max()) <= 1e-4 * float(expected.max() - expected.min())


@pytest.mark.parametrize("name", ["reversed", "tapped"])
def test_networks_changed_by_folding_are_left_alone(name: str) -> None:
    torch.manual_seed(1)
    network = lively(Reversed() if name == "reversed" else Tapped())
    assert fold_batch_norms(network, torch.rand(1, 1, 32, 32)) is network


def test_unfoldable_norms_stay() -> None:
    torch.manual_seed(1)
    grouped = nn.Sequential(nn.ConvTranspose2d(1, 4, 2, 2), nn.ConvTranspose2d(4, 4, 2, 2, groups=4), nn.BatchNorm2d(4))
    untracked = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    for network in (grouped, untracked):
        found = fold_batch_norms(lively(network), torch.rand(1, 1, 16, 16))
        assert norms_of(found) == 1
        torch.testing.assert_close(found(torch.ones(1, 1, 8, 8)), network(torch.ones(1, 1, 8, 8)))


def test_folding_works_in_three_axes() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU(), nn.ConvTranspose3d(2, 2, 2), nn.BatchNorm3d(2)
    )
    for _ in range(5):
        network(torch.randn(2, 1, 6, 7, 8))
    found = fold_batch_norms(network.eval(), torch.rand(1, 1, 6, 7, 8))
    assert norms_of(found) == 0
    torch.testing.assert_close(
        found(torch.ones(1, 1, 5, 6, 7)), network(torch.ones(1, 1, 5, 6, 7)), rtol=1e-4, atol=1e-4
    )


def test_folding_inside_autocast_and_inference_mode() -> None:
    network = lively(VanillaUNet(base_channels=4, depth=1))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = fold_batch_norms(network, torch.rand(1, 1, 16, 16))
    assert norms_of(found) == 0
    assert not any(weight.is_inference() for weight in found.parameters())
