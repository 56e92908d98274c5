"""Integrated gradients against closed forms and against captum."""

import math
from collections.abc import Callable, Sequence
from typing import cast, get_args

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_emseg.attribution.fields import IntegrationPath, PathRule, compute_answers, path_attributions
from lightning_emseg.attribution.network import Output, PixelOutput, detached_copy, flat_index
from lightning_emseg.attribution.points import OUTCOMES, find_outcomes
from lightning_emseg.attribution.windows import location_noise
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from tests.support import tiny
from tests.support.attribution_checks import settled, windows

RULES: tuple[PathRule, ...] = get_args(PathRule)
LINEAR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one convolution": (lambda: nn.Conv2d(1, 1, 5, padding=2), (1, 9, 11)),
    "two channels": (lambda: nn.Conv2d(2, 1, 3, padding=1), (2, 7, 8)),
    "three axes": (lambda: nn.Conv3d(2, 1, 3, padding=1), (2, 4, 5, 6)),
    "several layers": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ConvTranspose2d(4, 1, 2, 2),
        ),
        (1, 8, 10),
    ),
}


class Power(nn.Module):
    """The power of a linear answer."""

    def __init__(self, linear: nn.Module, exponent: int) -> None:
        super().__init__()
        self.linear, self.exponent = linear, exponent

    def forward(self, window: Tensor) -> Tensor:
        return cast(Tensor, self.linear(window) ** self.exponent)


def made(build: Callable[[], nn.Module], seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return build().eval().requires_grad_(False)


def weights_of(network: nn.Module, shape: tuple[int, ...], flat: int) -> Tensor:
    """What a unit in each input value adds to the answer of a linear network, by forward passes alone."""
    units = torch.eye(int(np.prod(shape))).view(-1, *shape)
    with torch.no_grad():
        found: Tensor = (network(units) - network(torch.zeros(1, *shape))).flatten(1)[:, flat]
    return found.view(shape)


def assert_near(found: Tensor, expected: Tensor, share: float) -> None:
    """Equal to a share of the largest magnitude."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= share * float(expected.abs().max())


def scalar(exponent: int = 1) -> tuple[nn.Module, Tensor, Tensor, Tensor, float, float]:
    """A function of one linear answer u: network, image, baseline, w · (x − x'), and u at both."""
    linear = made(lambda: nn.Conv2d(1, 1, 5, padding=2))
    image, baseline = windows(1, 5, 5)
    image, baseline = image / 64, baseline / 64
    pull = (weights_of(linear, (1, 5, 5), 12) * (image - baseline)).sum(dim=0)
    with torch.no_grad():
        end, start = (float(linear(window[None])[0, 0, 2, 2]) for window in (image, baseline))
    return (linear if exponent == 1 else Power(linear, exponent)), image, baseline, pull, end, start


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 7])
def test_linear_network_has_closed_form_field(name: str, rule: PathRule, steps: int) -> None:
    build, shape = LINEAR[name]
    network = made(build)
    noise = windows(*shape)
    image = noise[0]
    flat = flat_index([(0,) * len(shape[1:]), tuple(side // 2 for side in shape[1:])], shape[1:])
    for baseline in (noise[1], torch.zeros(shape), torch.full(shape, 127.5)):
        answers = PixelOutput(network)
        fields = path_attributions(answers, image, baseline, [flat[:1], flat[1:]], IntegrationPath(steps, rule))
        assert (fields.dtype, fields.device.type, fields.requires_grad) == (torch.float32, "cpu", False)
        expected = torch.stack([(weights_of(network, shape, int(at)) * (image - baseline)).sum(dim=0) for at in flat])
        assert_near(fields, expected, 1e-5)
        difference = compute_answers(answers, image, flat) - compute_answers(answers, baseline, flat)
        torch.testing.assert_close(fields.flatten(1).sum(dim=1), difference, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("rule", "order"), [("riemann_middle", 2), ("riemann_trapezoid", 2), ("riemann_left", 1), ("riemann_right", 1)]
)
def test_rules_converge_at_their_order(rule: PathRule, order: int) -> None:
    network, image, baseline, pull, end, start = scalar()
    after, before = (1 / (1 + math.exp(-u)) for u in (end, start))
    expected = pull * (after - before) / (end - start)
    errors = []
    for halvings in range(3):
        # Trapezoids have one point more than intervals.
        steps = 2 ** (4 + halvings) + (rule == "riemann_trapezoid")
        (found,) = path_attributions(
            PixelOutput(network, "probability"), image, baseline, [torch.tensor([12])], IntegrationPath(steps, rule)
        )
        errors.append(float((found - expected).abs().max()))
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 2**order, rtol=0.1)


@pytest.mark.parametrize(("exponent", "steps"), [(2, 2), (4, 2), (6, 3), (8, 4)])
def test_gauss_legendre_is_exact_for_polynomials(exponent: int, steps: int) -> None:
    network, image, baseline, pull, end, start = scalar(exponent)
    (found,) = path_attributions(
        PixelOutput(network), image, baseline, [torch.tensor([12])], IntegrationPath(steps, "gausslegendre")
    )
    assert_near(found, pull * (end**exponent - start**exponent) / (end - start), 2e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_weights_sum_to_one(rule: PathRule, steps: int) -> None:
    positions, weights = np.array(IntegrationPath(steps, rule).nodes()).T
    assert len(positions) == steps
    np.testing.assert_allclose(weights.sum(), 1)
    assert positions.min() >= 0
    assert positions.max() <= 1


def test_trapezoids_match_numpy() -> None:
    positions, weights = np.array(IntegrationPath(9, "riemann_trapezoid").nodes()).T
    np.testing.assert_allclose(weights @ np.exp(positions), np.trapezoid(np.exp(np.linspace(0, 1, 9)), dx=1 / 8))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "VanillaUNet": lambda: VanillaUNet(base_channels=2, depth=2),
    "LinkNet": lambda: smp.Linknet("resnet18", encoder_weights=None, in_channels=1, classes=1),
}


@pytest.mark.parametrize(
    ("name", "output", "rule"),
    [
        *(("VanillaUNet", output, rule) for output in get_args(Output) for rule in RULES),
        ("LinkNet", "logit", "riemann_middle"),
    ],
)
def test_single_pixel_fields_match_captum(name: str, output: Output, rule: PathRule) -> None:
    steps = 6
    answers = PixelOutput(settled(made(NETWORKS[name])), output).requires_grad_(False)
    image, baseline = windows(1, 64, 64)
    flat = flat_index([(0, 0), (30, 41)], (64, 64))
    found = path_attributions(answers, image, baseline, list(flat[:, None]), IntegrationPath(steps, rule))
    captum = IntegratedGradients(answers)
    for field, at in zip(found, flat.tolist(), strict=True):
        attributed: Tensor = captum.attribute(image[None], baseline[None], at, n_steps=steps, method=rule)
        theirs = attributed.detach()[0, 0]
        # Captum's trapezoids are 1/n wide although n points lie 1/(n − 1) apart.
        theirs = theirs * (steps / (steps - 1) if rule == "riemann_trapezoid" else 1)
        assert_near(field, theirs, 1e-5)
        assert float((field - theirs).abs().max()) < 1e-5


@pytest.fixture
def small() -> tuple[PixelOutput, Tensor, Tensor]:
    answers = PixelOutput(settled(VanillaUNet(base_channels=4, depth=1), 16)).requires_grad_(False)
    return answers, *windows(1, 16, 16)


def test_field_of_group_is_sum_of_fields(small: tuple[PixelOutput, Tensor, Tensor]) -> None:
    flat = torch.tensor([3, 50, 255])
    (together,) = path_attributions(*small, [flat], IntegrationPath(5))
    assert_near(together, path_attributions(*small, list(flat[:, None]), IntegrationPath(5)).sum(dim=0), 1e-5)


def test_more_groups_than_go_at_once(small: tuple[PixelOutput, Tensor, Tensor]) -> None:
    groups = list(torch.arange(0, 256, 3)[:, None])
    assert len(groups) > 64
    found = path_attributions(*small, groups, IntegrationPath(3))
    # In the other order, other groups share a forward pass.
    backwards = path_attributions(*small, groups[::-1], IntegrationPath(3))
    torch.testing.assert_close(found, backwards.flip(0), rtol=0, atol=0)
    for index in (0, 63, 64, len(groups) - 1):
        (alone,) = path_attributions(*small, [groups[index]], IntegrationPath(3))
        torch.testing.assert_close(found[index], alone, rtol=0, atol=0)


def test_no_groups(small: tuple[PixelOutput, Tensor, Tensor]) -> None:
    assert path_attributions(*small, [], IntegrationPath(3)).shape == (0, 16, 16)


class Counting(PixelOutput):
    """Records how many points of the path each forward pass sees."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.sizes: list[int] = []

    def forward(self, window: Tensor) -> Tensor:
        self.sizes.append(len(window))
        return super().forward(window)


@pytest.mark.parametrize(("side", "steps"), [(64, 100), (160, 23), (512, 3)])
def test_batches_need_not_divide_the_steps(side: int, steps: int) -> None:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 2, 3, padding=1), nn.Softplus(), nn.Conv2d(2, 1, 1)]
    answers = Counting(nn.Sequential(*layers)).requires_grad_(False)
    image, baseline = windows(1, side, side)
    groups, path = [torch.tensor([7]), torch.tensor([100, 200])], IntegrationPath(steps, "gausslegendre")
    found = path_attributions(answers, image, baseline, groups, path)
    # As many points at once as fill the caches of a CPU: 64, 10 and 1 of these windows.
    assert sum(answers.sizes) == steps
    assert max(answers.sizes) == max(1, 2**18 // side**2)
    expected = torch.zeros_like(found)
    for alpha, weight in path.nodes():
        point = (baseline + alpha * (image - baseline)).requires_grad_()
        output = answers(point[None])[0]
        for index, group in enumerate(groups):
            (gradient,) = torch.autograd.grad(output[group].sum(), point, retain_graph=True)
            expected[index] += weight * (gradient * (image - baseline)).sum(dim=0)
    assert_near(found, expected, 1e-5)


CONTEXTS: dict[str, Callable[[], torch.inference_mode | torch.no_grad | torch.autocast]] = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_surrounding_torch_contexts_play_no_role(small: tuple[PixelOutput, Tensor, Tensor], name: str) -> None:
    answers, image, baseline = small
    flat = torch.tensor([20, 255])
    expected = (
        path_attributions(answers, image, baseline, [flat], IntegrationPath(4)),
        compute_answers(answers, image, flat),
    )
    with CONTEXTS[name]():
        # Tensors that are made here belong to the context, as a trainer's batches do.
        found = path_attributions(answers, image.clone(), baseline.clone(), [flat.clone()], IntegrationPath(4))
        torch.testing.assert_close(found, expected[0], rtol=0, atol=0)
        torch.testing.assert_close(compute_answers(answers, image.clone(), flat.clone()), expected[1], rtol=0, atol=0)


def test_attribution_leaves_the_callers_state_unchanged(small: tuple[PixelOutput, Tensor, Tensor]) -> None:
    answers, image, baseline = small
    image = image[:, None].contiguous(memory_format=torch.channels_last)[:, 0]
    kept = [image.clone(), baseline.clone(), torch.get_rng_state()]
    strides, gradients = image.stride(), torch.is_grad_enabled()
    path_attributions(answers, image, baseline, [torch.tensor([9])], IntegrationPath(4, precision="bf16"))
    assert (image.stride(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == (strides, gradients, False)
    assert not image.requires_grad
    assert not baseline.requires_grad
    for now, before in zip((image, baseline, torch.get_rng_state()), kept, strict=True):
        assert torch.equal(now, before)


def test_brain_floats_come_close(small: tuple[PixelOutput, Tensor, Tensor]) -> None:
    exact, rough = (
        path_attributions(*small, [torch.tensor([120])], IntegrationPath(8, precision=p)) for p in ("32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    # Eight bits of mantissa, and maxima of a pool that are taken elsewhere.
    assert np.corrcoef(rough.ravel(), exact.ravel())[0, 1] > 0.95


def test_flat_positions_match_numpy() -> None:
    pixels: Sequence[tuple[int, ...]] = [(0, 0, 0), (1, 2, 3), (2, 4, 5)]
    expected = np.ravel_multi_index(tuple(np.array(pixels).T), (3, 5, 6))
    assert flat_index(pixels, (3, 5, 6)).tolist() == expected.tolist()
    assert flat_index([], (3, 5)).tolist() == []
    for outside in ((3, 0), (0, -1), (0, 0, 0)):
        with pytest.raises(ValueError, match="outside a window of"):
            flat_index([outside], (3, 5))


Trained = tuple[nn.Module, Tensor, Tensor, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A U-Net that has learnt something: its copy, an image, noise, and the outcome of every pixel."""
    torch.manual_seed(0)
    network = VanillaUNet(base_channels=16, depth=1)
    # Many images: one that knows a few by heart has gradients that jump at every step of the path.
    made = [tiny.content((32, 32), seed) for seed in range(201)]
    images, masks = (torch.from_numpy(np.stack(each))[:, None].float() for each in zip(*made, strict=True))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=60)
    for _ in range(60):
        some = torch.randperm(200)[:4]
        known = masks[some] <= 1
        logits = network((images[some] - 127.5) / 127.5)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.binary_cross_entropy_with_logits(logits[known], masks[some][known]))
        optimizer.step()
        schedule.step()
    copied = detached_copy(network, 127.5, 127.5)
    noise = torch.from_numpy(location_noise((0, 0), (0, 0), (32, 32))).float()[None]
    image, truth = images[200], masks[200, 0].numpy().astype(np.uint8)
    predicted = copied(image[None])[0, 0].numpy() > 0
    assert (predicted == (truth == 1))[truth != 255].mean() > 0.85
    return copied, image, noise, find_outcomes(truth, predicted)


def relative_errors(trained: Trained, path: IntegrationPath, each: int) -> NDArray[np.float64]:
    """Completeness errors over max(|F(x) − F(x')|, 1 logit), of some pixels of each outcome: (outcomes, each)."""
    network, image, noise, codes = trained
    answers, random = PixelOutput(network), np.random.default_rng(0)
    chosen = [random.choice(np.flatnonzero(codes == code), each, replace=False) for code in range(len(OUTCOMES))]
    flat = torch.from_numpy(np.concatenate(chosen))
    sums = path_attributions(answers, image, noise, list(flat[:, None]), path).double().flatten(1).sum(dim=1)
    difference = (compute_answers(answers, image, flat) - compute_answers(answers, noise, flat)).double()
    found: NDArray[np.float64] = ((sums - difference).abs() / difference.abs().clamp(min=1)).numpy()
    return found.reshape(len(OUTCOMES), each)


def test_trained_fields_are_complete_to_one_per_cent(trained: Trained) -> None:
    errors = relative_errors(trained, IntegrationPath(100), 4)
    assert errors.mean() < 0.01
    # A rectifier that opens or shuts between two steps costs single pixels more than that.
    assert errors.max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["riemann_middle", "riemann_trapezoid", "gausslegendre"])
def test_trained_fields_converge_to_completeness(trained: Trained, rule: PathRule) -> None:
    few, many = (relative_errors(trained, IntegrationPath(steps, rule), 1) for steps in (25, 400))
    assert many.mean() < few.mean() / 5
    assert many.max() < 0.01
