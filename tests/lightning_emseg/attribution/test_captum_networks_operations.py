from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum import Captum
from lightning_emseg.attribution.captum_networks import find_nonlinear_steps, prepare_network
from lightning_emseg.attribution.network import PixelOutput
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.smp_model import LinkNet, SmpModel
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.networks.wrappers import MultiScaleInput
from tests.support.attribution_checks import settled, windows

Step = Callable[[Tensor], Tensor]


class Applied(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


KERNEL = torch.randn(2, 2, 3, 3)
AFFINE: dict[str, Step] = {
    "sum": lambda x: x + x.flip(-1) - 3,
    "scale": lambda x: 2 * x / torch.tensor(3.0),
    "in place": lambda x: x.clone().add_(x).mul_(2),
    "concatenation": lambda x: torch.cat([x, x[..., :2]], dim=-1),
    "shapes": lambda x: x.flatten(1).unsqueeze(1).view(1, 2, 4, 4).transpose(2, 3).permute(0, 2, 1, 3).contiguous(),
    "convolution": lambda x: F.conv2d(x, KERNEL, torch.ones(2)),
    "transposed convolution": lambda x: F.conv_transpose2d(x, KERNEL, stride=2),
    "dense": lambda x: F.linear(x.flatten(1), torch.ones(3, 32), torch.ones(3)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, (3, 5), mode="bicubic", antialias=True),
    "nearest": lambda x: F.interpolate(x, (9, 7)),
    "mean pool": lambda x: F.avg_pool2d(x, 2) + F.adaptive_avg_pool2d(x, 2),
    "mean": lambda x: x.mean((2, 3)) + x.sum((2, 3)) + F.adaptive_avg_pool2d(x, 1)[..., 0, 0],
    "padding": lambda x: F.pad(F.pad(x, (1, 1, 1, 1)), (1, 1, 1, 1), mode="reflect"),
    "batch norm": lambda x: F.batch_norm(x, torch.ones(2), torch.ones(2), torch.ones(2), torch.ones(2)),
    "stack": lambda x: torch.stack(x.unbind(1), dim=2).float(),
    "constant": lambda x: x * torch.ones(4).exp().relu(),
}
NOT_AFFINE: dict[str, tuple[str, Step]] = {
    "relu": ("relu", F.relu),
    "relu in place": ("relu", lambda x: F.relu(x.clone(), inplace=True)),
    "relu by hand": ("clamp", lambda x: x.clamp(min=0)),
    "relu as product": ("gt", lambda x: x * (x > 0)),
    "relu as choice": ("gt", lambda x: torch.where(x > 0, x, torch.zeros(()))),
    "leaky": ("leaky_relu", lambda x: F.leaky_relu(x)),
    "sigmoid": ("sigmoid", torch.sigmoid),
    "softmax": ("_softmax", lambda x: x.softmax(1)),
    "swish": ("mul", lambda x: x * x),
    "ratio": ("div", lambda x: torch.ones(4) / x),
    "power": ("pow", lambda x: x**2),
    "max pool": ("max_pool2d_with_indices", lambda x: F.max_pool2d(x, 2)),
    "maximum": ("maximum", lambda x: torch.maximum(x, -x)),
    "norm of the sample": ("native_layer_norm", lambda x: F.layer_norm(x, (4, 4))),
    "norm of the batch": ("native_batch_norm", lambda x: F.batch_norm(x, None, None, training=True)),
    "rounding": ("round", lambda x: x.round()),
    "whole numbers": ("_to_copy", lambda x: x.long().float()),
    "absolute": ("abs", lambda x: x.abs()),
    "cut off": ("detach", lambda x: x.detach() * 2),
    "without gradient": ("sigmoid", lambda x: x * torch.no_grad()(torch.sigmoid)(x)),
    "matrix product": ("bmm", lambda x: x @ x),
}


def nonlinear(step: Step) -> list[str]:
    return [name for name, _, _ in find_nonlinear_steps(Applied(step), torch.rand(1, 2, 4, 4) + 0.5)]


@pytest.mark.parametrize("name", AFFINE)
def test_affine_operations_are_recognised(name: str) -> None:
    step = AFFINE[name]
    # It is affine: the value half-way between two images is half-way between the values.
    one, other = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(2 * step((one + other) / 2), step(one) + step(other))
    assert nonlinear(step) == []


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_non_affine_operations_are_named(name: str) -> None:
    operation, step = NOT_AFFINE[name]
    assert operation in nonlinear(step)


def test_steps_name_the_module_they_ran_in() -> None:
    network = nn.Sequential(nn.Sequential(nn.Sigmoid()), Applied(torch.relu))
    sigmoid, relu = (step for step in find_nonlinear_steps(network, torch.rand(1, 2)) if step[0] != "detach")
    assert sigmoid == ("sigmoid", "0.0", nn.Sigmoid)
    assert relu == ("relu", "1", Applied)


def test_hooks_are_removed_after_a_failure() -> None:
    network = nn.Sequential(nn.Linear(3, 3))
    for image in (torch.rand(1, 3), torch.rand(1, 4)):
        try:
            find_nonlinear_steps(network, image)
        except RuntimeError:
            assert image.shape == (1, 4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


SIDE = 32
COMPLETE: dict[str, Callable[[], nn.Module]] = {
    "vanilla U-Net": lambda: VanillaUNet(base_channels=4),
    "LinkNet": lambda: LinkNet(encoder="resnet18"),
    "U-Net": lambda: UNet(encoder="resnet18"),
    "CASENet": lambda: CASENet("resnet18"),
    "U-Net++": lambda: SmpModel("UnetPlusPlus", "resnet18"),
    "U-Net on VGG": lambda: UNet(encoder="vgg11_bn"),
}


SLOW = ("U-Net++", "U-Net on VGG")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COMPLETE]
)
def test_deep_lift_is_complete_on_our_networks(name: str) -> None:
    torch.manual_seed(0)
    trained = settled(COMPLETE[name](), SIDE)
    window, baseline = windows(1, SIDE, SIDE)
    # Logits are compared more strictly below.
    network = PixelOutput(trained, "probability").eval()
    pixels = [(0, 5), (16, 14)]
    fields = Captum("captum.attr.DeepLift").attribute(network, window, baseline, pixels)
    with torch.no_grad():
        change = (network(window[None]) - network(baseline[None])).view(SIDE, SIDE)
    for pixel, field in zip(pixels, fields, strict=True):
        # Without the rewriting it is off by 30 % to several hundred.
        assert float(field.double().sum()) == pytest.approx(float(change[pixel]), rel=2e-3), pixel


class InDouble(nn.Module):
    """A network on normalised windows in double precision, which the Lightning modules do not keep."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, window: Tensor) -> Tensor:
        answers: Tensor = self.network((window - 127.5) / 127.5).flatten(1)
        return answers


@pytest.mark.parametrize("name", ["vanilla U-Net", "LinkNet", "U-Net", "CASENet"])
def test_deep_lift_is_complete_up_to_rounding(name: str) -> None:
    torch.manual_seed(1)
    trained: Any = settled(COMPLETE[name](), SIDE)
    network = InDouble(trained.network).eval()
    window, baseline = (values.double()[None] for values in windows(1, SIDE, SIDE))
    target = 16 * SIDE + 14
    field = DeepLift(prepare_network(DeepLift, network, window)).attribute(window, baseline, target=target)
    with torch.no_grad():
        change = (network(window) - network(baseline))[0, target]
    assert float(field.sum()) == pytest.approx(float(change), rel=1e-10)


class Twice(nn.Module):
    """One ReLU, in place, after each of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 12)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, window: Tensor) -> Tensor:
        answers: Tensor = self.relu(self.second(self.relu(self.first(window.flatten(1)))))
        return answers


def test_guided_backpropagation_rectifies_every_call_of_a_relu() -> None:
    torch.manual_seed(8)
    network = Twice().eval()
    window = torch.randn(1, 3, 4)
    hidden = network.first(window.flatten()).detach()
    answers = network.second(hidden.relu()).detach()
    fields = Captum("captum.attr.GuidedBackprop").attribute(network, window, window, [(y, 1) for y in range(3)])
    assert 0 < sum(bool(answers[4 * y + 1] > 0) for y in range(3)) < 3
    for y, field in enumerate(fields):
        # Springenberg et al. 2015, sec. 3.4: kept where both the activation and the gradient are positive.
        upper = network.second.weight.detach()[4 * y + 1] * (answers[4 * y + 1] > 0)
        lower = upper.relu() * (hidden > 0)
        torch.testing.assert_close(field, (lower @ network.first.weight.detach()).view(3, 4))


def two_scales() -> nn.Module:
    return MultiScaleInput(VanillaUNet(base_channels=2, depth=1).network, (0.5, 1.0), stride=2)


REFUSED: dict[str, tuple[str, Callable[[], nn.Module], str]] = {
    "function": ("DeepLift", lambda: LinkNet(hypercolumns=True), r"has relu in the network \(Hypercolumns\)"),
    "softmax": ("DeepLift", two_scales, r"_softmax in .*\(MultiScaleInput\)"),
    "gate": ("DeepLift", lambda: UNet("resnet18", decoder_attention="scse"), r"mul in .*\(SCSEModule\)"),
    "module": ("DeepLift", lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.SiLU()), r"silu in 1 \(SiLU\)"),
    "guided": ("GuidedBackprop", lambda: LinkNet(hypercolumns=True), r"relu in the network"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_methods_are_refused(name: str) -> None:
    method, make, message = REFUSED[name]
    network = PixelOutput(make()).eval()
    window, baseline = windows(1, SIDE, SIDE)
    with pytest.raises(UserError, match=message) as refusal:
        Captum(f"captum.attr.{method}").attribute(network, window, baseline, [(0, 0)])
    assert "captum.attr.InputXGradient" in str(refusal.value)
