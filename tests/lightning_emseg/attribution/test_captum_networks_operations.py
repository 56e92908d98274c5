from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum import CaptumMethod
from lightning_emseg.attribution.captum_networks import operations, prepared
from lightning_emseg.attribution.network import GreyNetwork, Output, PixelOutput
from lightning_emseg.modules.casenet import CASENet
from lightning_emseg.modules.smp_model import LinkNet, SmpModel
from lightning_emseg.modules.unet import UNet
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from lightning_emseg.networks.wrappers import MultiScaleInput
from tests.support.attribution_checks import bias_free, settled, windows

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


def steps(step: Step) -> list[tuple[str, bool]]:
    image = torch.rand(1, 2, 4, 4) + 0.5
    return [(each.name, each.affine) for each in operations(Applied(step), image)]


@pytest.mark.parametrize("name", AFFINE)
def test_affine_operations_are_recognised(name: str) -> None:
    step = AFFINE[name]
    # It is affine: the value half-way between two images is half-way between the values.
    one, other = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(2 * step((one + other) / 2), step(one) + step(other))
    found = steps(step)
    assert found
    assert all(affine for _, affine in found), found


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_non_affine_operations_are_named(name: str) -> None:
    operation, step = NOT_AFFINE[name]
    assert operation in [found for found, affine in steps(step) if not affine]


def test_copies_are_distinguished_from_sums() -> None:
    image = torch.rand(1, 2, 4, 4)
    copying = Applied(lambda x: F.interpolate(torch.cat([x, x[:, :1]], 1), scale_factor=2.0).flatten(1))
    assert all(step.copies for step in operations(copying, image))
    for name in ("sum", "scale", "bilinear", "convolution", "mean"):
        assert not all(step.copies for step in operations(Applied(AFFINE[name]), image)), name


def test_operations_name_the_module_they_ran_in() -> None:
    network = nn.Sequential(nn.Sequential(nn.Sigmoid()), Applied(torch.relu))
    sigmoid, relu = (step for step in operations(network, torch.rand(1, 2)) if step.name in ("sigmoid", "relu"))
    assert (sigmoid.path, sigmoid.module, sigmoid.leaf) == ("0.0", nn.Sigmoid, True)
    assert str(relu) == "relu in 1 (Applied)"
    assert str(operations(Applied(torch.relu), torch.rand(1, 2))[0]) == "relu in the network (Applied)"


def test_hooks_are_removed_after_a_failure() -> None:
    network = nn.Sequential(nn.Linear(3, 3))
    for image in (torch.rand(1, 3), torch.rand(1, 4)):
        try:
            operations(network, image)
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
