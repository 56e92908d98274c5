import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.attribution.captum import Captum
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.network import PixelOutput
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support.attribution_checks import bias_free, windows

SHAPE = (2, 4, 5)
PIXELS = [(1, 2), (0, 0), (3, 4)]


class Dense(nn.Module):
    """Linear answers at all pixels, of all values of a window."""

    def __init__(self, *shape: int, bias: bool = False) -> None:
        super().__init__()
        self.shape = shape
        torch.manual_seed(7)
        self.flatten, self.layer = nn.Identity(), nn.Linear(int(np.prod(shape)), int(np.prod(shape[1:])), bias=bias)

    def forward(self, window: Tensor) -> Tensor:
        answers: Tensor = self.layer(self.flatten(window.flatten(1)))
        return answers

    def weight(self, pixel: tuple[int, ...]) -> Tensor:
        row = int(np.ravel_multi_index(pixel, self.shape[1:]))
        return self.layer.weight.detach()[row].view(self.shape)


Truth = Callable[[Tensor, Tensor, Tensor], Tensor]
DIFFERENCE: Truth = lambda w, x, x0: w * (x - x0)  # noqa: E731
LINEAR: dict[str, tuple[dict[str, Any], Truth]] = {
    "Saliency": ({}, lambda w, x, x0: w.abs()),
    "InputXGradient": ({}, lambda w, x, x0: w * x),
    "GuidedBackprop": ({}, lambda w, x, x0: w),
    "Occlusion": ({"attribute_args": {"sliding_window_shapes": [1, 1, 1]}}, DIFFERENCE),
    "FeatureAblation": ({"attribute_args": {"perturbations_per_eval": 7}}, DIFFERENCE),
    "DeepLift": ({}, DIFFERENCE),
    "IntegratedGradients": ({"attribute_args": {"n_steps": 3, "internal_batch_size": 2}}, DIFFERENCE),
    "GradientShap": ({"attribute_args": {"n_samples": 3}}, DIFFERENCE),
    "ShapleyValueSampling": ({"attribute_args": {"n_samples": 1}}, DIFFERENCE),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 3, 4)])
def test_linear_networks_have_closed_form_fields(name: str, shape: tuple[int, ...]) -> None:
    options, truth = LINEAR[name]
    if "attribute_args" in options and "sliding_window_shapes" in options["attribute_args"]:
        options = {"attribute_args": {"sliding_window_shapes": [1] * len(shape)}}
    network = Dense(*shape).eval()
    window, baseline = windows(*shape)
    pixels = [(0,) * (len(shape) - 1), tuple(side - 1 for side in shape[1:])]
    fields = Captum(f"captum.attr.{name}", **options).attribute(network, window, baseline, pixels)
    assert (fields.dtype, fields.device.type, fields.requires_grad) == (torch.float32, "cpu", False)
    expected = torch.stack([truth(network.weight(pixel), window, baseline).sum(dim=0) for pixel in pixels])
    torch.testing.assert_close(fields, expected, rtol=1e-4, atol=1e-3)


def test_saliency_is_the_finite_difference() -> None:
    torch.manual_seed(2)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, 1, 3, padding=1), nn.Tanh(), nn.Flatten()]
    network = nn.Sequential(*layers).double().eval()
    window, baseline = (values.double() / 255 for values in windows(1, 5, 6))
    method = Captum("captum.attr.Saliency", attribute_args={"abs": False})
    fields = method.attribute(network, window, baseline, [(2, 3)])
    steps = 1e-4 * torch.eye(30, dtype=torch.float64).view(30, 1, 5, 6)
    with torch.no_grad():
        slopes = (network(window + steps) - network(window - steps))[:, 2 * 6 + 3] / 2e-4
    torch.testing.assert_close(fields[0], slopes.view(5, 6).float(), rtol=1e-4, atol=1e-7)


def test_occlusion_is_the_change_of_the_answer() -> None:
    network = PixelOutput(VanillaUNet(base_channels=2, depth=2).eval())
    window, baseline = windows(1, 16, 16)
    arguments = {"sliding_window_shapes": [1, 4, 8], "strides": [1, 4, 8], "perturbations_per_eval": 3}
    method = Captum("captum.attr.Occlusion", attribute_args=arguments)
    field = method.attribute(network, window, baseline, [(5, 9)])[0]
    for top in range(0, 16, 4):
        for left in range(0, 16, 8):
            hidden = window.clone()
            hidden[:, top : top + 4, left : left + 8] = baseline[:, top : top + 4, left : left + 8]
            with torch.no_grad():
                change = (network(window[None]) - network(hidden[None]))[0, 5 * 16 + 9]
            torch.testing.assert_close(field[top : top + 4, left : left + 8], change.expand(4, 8), rtol=1e-4, atol=1e-5)


def test_fields_are_those_of_captum_called_by_hand() -> None:
    network = Dense(*SHAPE, bias=True).eval()
    window, baseline = windows(*SHAPE)
    arguments = {"sliding_window_shapes": (2, 2, 3), "strides": (1, 1, 2)}
    by_hand = Occlusion(network).attribute(window[None], baselines=baseline[None], target=7, **arguments)[0].sum(dim=0)
    method = Captum("captum.attr.Occlusion", attribute_args={name: list(at) for name, at in arguments.items()})
    torch.testing.assert_close(method.attribute(network, window, baseline, [(1, 2)])[0], by_hand)


def test_every_pixel_has_its_own_field_in_order() -> None:
    network = Dense(*SHAPE).eval()
    window, baseline = windows(*SHAPE)
    method = Captum("captum.attr.DeepLift")
    together = method.attribute(network, window, baseline, PIXELS)
    apart = [method.attribute(network, window, baseline, [pixel]) for pixel in PIXELS]
    assert torch.equal(together, torch.cat(apart))
    assert method.attribute(network, window, baseline, []).shape == (0, 4, 5)


@pytest.mark.parametrize("part", [slice(None), slice(1, 2)])
def test_networks_in_training_mode_are_refused(part: slice) -> None:
    network = nn.Sequential(nn.Conv2d(2, 1, 1), nn.Dropout(0.5)).eval()
    network[part].train()
    window, baseline = windows(*SHAPE)
    methods = (Captum("captum.attr.Saliency"), IntegratedGradients(2))
    for method in methods:
        with pytest.raises(UserError, match=r"is in training mode; attribution needs evaluation mode: call its eval"):
            method.bind(network, 1)
    with pytest.raises(UserError, match="is in training mode"):
        methods[0].attribute(PixelOutput(network), window, baseline, [(1, 2)])
    for method in methods:
        fields = method.bind(network.eval(), 1).fields(window, baseline, PIXELS, [[0], [1], [2]])
        assert [field.pixel for field in fields] == PIXELS


def test_attribution_leaves_modes_after_a_failure() -> None:
    network = nn.Sequential(Dense(*SHAPE), nn.SiLU()).eval()
    window, baseline = windows(*SHAPE)
    with pytest.raises(UserError, match="silu"):
        Captum("captum.attr.DeepLift").attribute(network, window, baseline, PIXELS)
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "captum.attr.Salience"}, "no attribution method captum.attr.Salience: give a class path"),
        ({"method": "Saliency"}, "no attribution method Saliency: give a class path"),
        ({"method": "nowhere.Saliency"}, "no attribution method nowhere.Saliency"),
        ({"method": "torch.nn.ReLU"}, "is no attribution method of captum: take one"),
        ({"method": "captum.attr.LayerGradCam"}, "is about a layer or neuron"),
        ({"method": "captum.attr.NeuronGradient"}, "is about a layer or neuron"),
        ({"method": "captum.attr.NoiseTunnel"}, "does not attribute a network's output by itself"),
        ({"method": "captum.attr.Attribution"}, "does not attribute a network's output by itself"),
        ({"method": "captum.attr.FeaturePermutation"}, "swaps pixels between windows"),
        ({"method": "captum.attr.GuidedGradCam"}, "method_args lacks layer"),
        ({"method": "captum.attr.Occlusion"}, "attribute_args lacks sliding_window_shapes: add it"),
        (
            {"method": "captum.attr.Saliency", "attribute_args": {"absolute": True}},
            "attribute_args has no absolute: it can have abs",
        ),
        (
            {"method": "captum.attr.DeepLift", "attribute_args": {"baselines": 0}},
            "attribute_args has no baselines: it can have custom_attribution_func",
        ),
        (
            {"method": "captum.attr.LRP"},
            "LRP has rules for a few kinds of layers only .* or captum.attr.InputXGradient",
        ),
        ({"method": "captum.attr.Saliency", "method_args": {"eps": 1}}, "method_args has no eps: it can have nothing"),
    ],
)
def test_unknown_methods_and_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Captum(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Occlusion", {"sliding_window_shapes": [1, 3]}),
        ("Occlusion", {"sliding_window_shapes": [1, 3, 3], "strides": [9, 9, 9]}),
        ("IntegratedGradients", {"method": "guess"}),
        ("DeepLiftShap", {}),
    ],
)
def test_values_refused_by_captum_are_named(name: str, arguments: dict[str, Any]) -> None:
    window, baseline = windows(*SHAPE)
    method = Captum(f"captum.attr.{name}", attribute_args=arguments)
    with pytest.raises(UserError, match=rf"captum.attr.{name} refuses a window \(1, 2, 4, 5\)"):
        method.attribute(Dense(*SHAPE).eval(), window, baseline, [(0, 0)])


@pytest.mark.parametrize("name", ["Saliency", "DeepLift", "Occlusion", "GuidedBackprop"])
def test_network_and_window_are_untouched(name: str) -> None:
    network = PixelOutput(bias_free(0)).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    attributes = [sorted(vars(module)) for module in network.modules()]
    window, baseline = windows(1, 8, 8)
    kept = window.clone()
    arguments = {"sliding_window_shapes": [1, 4, 4]} if name == "Occlusion" else None
    Captum(f"captum.attr.{name}", attribute_args=arguments).attribute(network, window, baseline, [(1, 1)])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [sorted(vars(module)) for module in network.modules()] == attributes
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())
    assert torch.equal(window, kept)
    assert not window.requires_grad


@pytest.mark.parametrize("name", ["Saliency", "DeepLift", "IntegratedGradients", "GuidedBackprop"])
def test_methods_warn_of_nothing(name: str) -> None:
    window, baseline = windows(1, 8, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Captum(f"captum.attr.{name}").attribute(PixelOutput(bias_free(0)).eval(), window, baseline, [(1, 1)])
    assert [str(each.message) for each in caught] == []


def test_a_pixel_outside_is_an_error() -> None:
    window, baseline = windows(*SHAPE)
    with pytest.raises(ValueError, match="outside"):
        Captum("captum.attr.Saliency").attribute(Dense(*SHAPE).eval(), window, baseline, [(4, 0)])


def test_method_is_configurable_by_yaml_and_command_line() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--attribution", type=Captum)
    yaml = """{class_path: lightning_emseg.attribution.captum.Captum,
        init_args: {method: captum.attr.Occlusion, attribute_args: {sliding_window_shapes: [1, 16, 16],
        strides: [1, 8, 8]}}}"""
    method = parser.instantiate_classes(parser.parse_args(["--attribution", yaml])).attribution
    assert method.attribute_args == {"sliding_window_shapes": (1, 16, 16), "strides": (1, 8, 8)}
    short = ["--attribution", "Captum", "--attribution.method", "captum.attr.DeepLift"]
    method = parser.instantiate_classes(parser.parse_args([*short, "--attribution.method_args", "{eps: 1e-6}"]))
    assert method.attribution.method_args == {"eps": 1e-6}
