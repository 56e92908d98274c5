from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import DeepLift
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum_methods.class_path import CaptumMethod
from lightning_emseg.attribution.captum_methods.preparation import prepared
from lightning_emseg.attribution.outputs import GreyNetwork, Output, PixelOutput
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.linknet import LinkNet
from lightning_emseg.modules.smp_model import SmpModel
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.networks.multiscale import MultiScaleInput
from tests.support.attribution_checks import bias_free, settled, windows

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
    fields = CaptumMethod("captum.attr.DeepLift").fields(network, window, baseline, pixels)
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
    field = DeepLift(prepared(DeepLift, network, window).network).attribute(window, baseline, target=target)
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
    fields = CaptumMethod("captum.attr.GuidedBackprop").fields(network, window, window, [(y, 1) for y in range(3)])
    assert 0 < sum(bool(answers[4 * y + 1] > 0) for y in range(3)) < 3
    for y, field in enumerate(fields):
        # Springenberg et al. 2015, sec. 3.4: kept where both the activation and the gradient are positive.
        upper = network.second.weight.detach()[4 * y + 1] * (answers[4 * y + 1] > 0)
        lower = upper.relu() * (hidden > 0)
        torch.testing.assert_close(field, (lower @ network.first.weight.detach()).view(3, 4))


@pytest.mark.parametrize("seed", range(4))
def test_relevance_is_conserved_without_biases(seed: int) -> None:
    network = PixelOutput(bias_free(seed))
    window, baseline = windows(1, 8, 8)
    fields = CaptumMethod("captum.attr.LRP").fields(network, window, baseline, [(3, 3), (0, 7)])
    answers = network(window[None]).detach().view(8, 8)
    torch.testing.assert_close(fields.sum(dim=(1, 2)), torch.stack([answers[3, 3], answers[0, 7]]), rtol=1e-4, atol=0)


class Skipping(nn.Module):
    """A small U-Net of layers that have a rule of relevance."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.pool, self.bottom = nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(10, 1, 3, padding=1)

    def forward(self, window: Tensor) -> Tensor:
        kept = self.down(window)
        large = nn.functional.interpolate(self.bottom(self.pool(kept)), scale_factor=2.0)
        answers: Tensor = self.head(torch.cat([kept, large], dim=1))
        return answers


@pytest.mark.parametrize(
    "make",
    [
        Skipping,
        pytest.param(lambda: UNet(encoder="vgg11_bn").network, marks=pytest.mark.slow, id="U-Net on VGG"),
    ],
)
def test_relevance_equals_normalised_input_times_gradient(make: Callable[[], nn.Module]) -> None:
    # Ancona et al. 2018, proposition 1: the epsilon rule on ReLUs; the skips, copies and biases change nothing.
    torch.manual_seed(1)
    network = settled(make(), 32)
    window, baseline = windows(1, 32, 32)
    pixels = [(10, 20), (31, 0)]
    answering = PixelOutput(GreyNetwork(network, 100.0, 40.0)).eval()
    fields = CaptumMethod("captum.attr.LRP").fields(answering, window, baseline, pixels)
    normalised = ((window - 100) / 40)[None].requires_grad_()
    answers = network(normalised)[0, 0]
    for pixel, field in zip(pixels, fields, strict=True):
        (gradient,) = torch.autograd.grad(answers[pixel], normalised, retain_graph=True)
        expected = (gradient * normalised.detach())[0, 0]
        torch.testing.assert_close(field, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class Halved(nn.Module):
    """Scales between an identity and the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.layer = nn.Identity(), nn.Conv2d(1, 1, 3, padding=1, bias=False)

    def forward(self, window: Tensor) -> Tensor:
        answers: Tensor = self.layer(self.start(window * 3) / 2)
        return answers


def test_relevance_starts_at_the_first_layer_with_rule() -> None:
    torch.manual_seed(6)
    network = PixelOutput(Halved()).eval()
    window, baseline = windows(1, 6, 6)
    (field,) = CaptumMethod("captum.attr.LRP").fields(network, window, baseline, [(2, 2)])
    with torch.no_grad():
        torch.testing.assert_close(field.sum(), network(window[None])[0, 14], rtol=1e-4, atol=0)


class Entering(nn.Module):
    """Hands the window to its first layer and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 1, 1), nn.Conv2d(2, 1, 1)

    def forward(self, window: Tensor) -> Tensor:
        answers: Tensor = self.head(torch.cat([self.layer(window / 2), window], dim=1))
        return answers


def two_scales() -> nn.Module:
    return MultiScaleInput(VanillaUNet(base_channels=2, depth=1).network, (0.5, 1.0), stride=2)


REFUSED: dict[str, tuple[str, Callable[[], nn.Module], Output, str]] = {
    "function": ("DeepLift", lambda: LinkNet(hypercolumns=True), "logit", r"has relu in the network \(Hypercolumns\)"),
    "softmax": ("DeepLift", two_scales, "logit", r"_softmax in .*\(MultiScaleInput\)"),
    "gate": ("DeepLift", lambda: UNet("resnet18", decoder_attention="scse"), "logit", r"mul in .*\(SCSEModule\)"),
    "module": ("DeepLift", lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.SiLU()), "logit", r"silu in 1 \(SiLU\)"),
    "guided": ("GuidedBackprop", lambda: LinkNet(hypercolumns=True), "logit", r"relu in the network"),
    "residual": ("LRP", lambda: UNet("resnet18"), "logit", r"add in encoder.layer1.0 \(BasicBlock\)"),
    "transposed": ("LRP", lambda: VanillaUNet(base_channels=2), "logit", r"convolution in grow.0 \(ConvTranspose2d\)"),
    "bilinear": ("LRP", lambda: CASENet("resnet18"), "logit", r"\(BasicBlock\)"),
    "sigmoid": ("LRP", lambda: bias_free(0), "probability", r"sigmoid in answer \(Sigmoid\).* attribute the logit"),
    "two ways": ("LRP", Entering, "logit", r"LRP needs the whole image to enter the network at one layer alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_methods_are_refused(name: str) -> None:
    method, make, output, message = REFUSED[name]
    network = PixelOutput(make(), output).eval()
    window, baseline = windows(1, SIDE, SIDE)
    with pytest.raises(UserError, match=message) as refusal:
        CaptumMethod(f"captum.attr.{method}").fields(network, window, baseline, [(0, 0)])
    assert "captum.attr.InputXGradient" in str(refusal.value)
