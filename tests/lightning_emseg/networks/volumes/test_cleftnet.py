"""CleftNet and its feature augmentor."""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from data_modules.errors import UserError
from lightning_emseg.networks.volumes import CleftNet, ResUNet3D
from lightning_emseg.networks.volumes.cleftnet import (
    FeatureAugmentor,
    TrainableQueries,
    make_augmentor,
)

IN = (4, 6, 5)
FLAT = (1, 2, 2)
Made = Callable[[], FeatureAugmentor]
AUGMENTORS: dict[str, tuple[Made, tuple[int, int, int], tuple[int, int, int]]] = {
    # With the sizes of input and output.
    "down": (lambda: make_augmentor(8, "down", (2, 3, 2), (2, 2, 2)), (4, 6, 4), (2, 3, 2)),
    "down flat": (lambda: make_augmentor(8, "down", (3, 3, 2), FLAT), (3, 6, 4), (3, 3, 2)),
    "keep": (lambda: make_augmentor(8, "bottom", IN), IN, IN),
    "up": (lambda: make_augmentor(8, "up", (4, 6, 4), (2, 2, 2)), (2, 3, 2), (4, 6, 4)),
    "up flat": (lambda: make_augmentor(8, "up", (3, 6, 4), FLAT), (3, 3, 2), (3, 6, 4)),
    "scaled": (lambda: make_augmentor(8, "down", (2, 3, 2), (2, 2, 2), scaled=True), (4, 6, 4), (2, 3, 2)),
    "narrow": (lambda: FeatureAugmentor(16, TrainableQueries(8, IN), nn.Identity(), width=8), IN, IN),
    "self down": (lambda: make_augmentor(8, "down", (2, 3, 2), (2, 2, 2), "self"), (4, 6, 4), (2, 3, 2)),
    "self keep": (lambda: make_augmentor(8, "bottom", IN, attention="self"), IN, IN),
    "self up": (lambda: make_augmentor(8, "up", (3, 6, 4), FLAT, "self"), (3, 3, 2), (3, 6, 4)),
}


def materialised(augmentor: FeatureAugmentor, x: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Equations 3–5 with matrices ``c × voxels``, as the paper writes them."""

    def pointwise(convolution: nn.Conv3d, maps: Tensor) -> Tensor:
        weight = convolution.weight[:, :, 0, 0, 0]
        out = torch.einsum("oc,bcn->bon", weight, maps)
        return out if convolution.bias is None else out + convolution.bias[:, None]

    q: Tensor = augmentor.queries(x, size).flatten(2)
    k, v = pointwise(augmentor.keys, x.flatten(2)), pointwise(augmentor.values, x.flatten(2))
    logits = torch.einsum("bck,bcq->bkq", k, q.expand(len(x), -1, -1))
    attention = torch.softmax(logits * augmentor.scale, dim=1)  # columns sum to 1
    out = pointwise(augmentor.out, v @ attention).reshape(*x.shape[:2], *size)
    residual = x
    if size[1] < x.shape[3]:
        residual = F.max_pool3d(x, [side // below for side, below in zip(x.shape[2:], size, strict=True)])
    elif size[1] > x.shape[3]:
        residual = F.interpolate(x, size, mode="trilinear")
    return out + residual


@pytest.mark.parametrize("name", AUGMENTORS)
def test_equals_the_materialised_product_with_its_gradients(name: str) -> None:
    make, size, expected_size = AUGMENTORS[name]
    torch.manual_seed(0)
    augmentor = make().double()
    x = torch.randn(2, augmentor.keys.in_channels, *size, dtype=torch.float64, requires_grad=True)
    found, expected = augmentor(x), materialised(augmentor, x, expected_size)
    assert tuple(found.shape[2:]) == expected_size
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    direction, inputs = torch.randn_like(found), [x, *augmentor.parameters()]
    gradients = torch.autograd.grad((found * direction).sum(), inputs)
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * direction).sum(), inputs), strict=True):
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("name", ["down", "up flat", "self down"])
def test_gradients_are_those_of_small_differences(name: str) -> None:
    make, size, _ = AUGMENTORS[name]
    torch.manual_seed(1)
    augmentor = make().double()
    # Apart by more than the differences, or max pooling would change its mind.
    x = 0.1 * torch.randperm(8 * size[0] * size[1] * size[2]).double().reshape(1, 8, *size) / 10
    x.requires_grad_()
    assert torch.autograd.gradcheck(augmentor, (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", AUGMENTORS)
def test_attention_avoids_the_matrix(name: str, dtype: torch.dtype) -> None:
    make, size, _ = AUGMENTORS[name]
    augmentor = make().to(dtype)
    # Convolutions may return channels-last maps.
    x = torch.randn(2, augmentor.keys.in_channels, *size, dtype=dtype)
    for each in (x, x.to(memory_format=torch.channels_last_3d)):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # any other path is an error now
            augmentor(each).sum().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in augmentor.parameters() if weight.grad is not None)
    assert augmentor.keys.weight.grad is not None


def test_mixed_precision_avoids_the_matrix() -> None:
    augmentor = make_augmentor(8, "up", (3, 6, 4), FLAT)
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        augmentor(torch.randn(2, 8, 3, 3, 2)).float().sum().backward()
    assert augmentor.keys.weight.grad is not None
    assert bool(augmentor.keys.weight.grad.isfinite().all())


def test_memory_stays_far_below_the_matrix() -> None:
    augmentor = make_augmentor(8, "down", (4, 16, 32), (2, 2, 2))
    x = torch.randn(1, 8, 8, 32, 64)
    matrix = 4 * (8 * 32 * 64) * (4 * 16 * 32)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        augmentor(x).sum().backward()
    largest = max(event.cpu_memory_usage for event in profiler.events())
    # 128 MiB against a few times the half megabyte of the input.
    assert 4 * x.numel() <= largest < matrix / 100


def test_attention_ignores_the_order_of_the_input() -> None:
    torch.manual_seed(0)
    augmentor = make_augmentor(8, "bottom", IN).double()
    x = torch.randn(1, 8, *IN, dtype=torch.float64)
    shuffled = x.flatten(2)[:, :, torch.randperm(x[0, 0].numel())].reshape(x.shape)
    torch.testing.assert_close(augmentor.attend(shuffled, IN), augmentor.attend(x, IN))


def test_output_follows_the_order_of_the_queries() -> None:
    torch.manual_seed(0)
    augmentor = make_augmentor(8, "bottom", IN).double()
    x = torch.randn(1, 8, *IN, dtype=torch.float64)
    before = augmentor.attend(x, IN)
    order = torch.randperm(x[0, 0].numel())
    queries = augmentor.queries
    assert isinstance(queries, TrainableQueries)
    with torch.no_grad():
        queries.weight.copy_(queries.weight.flatten(2)[:, :, order].reshape(queries.weight.shape))
    torch.testing.assert_close(augmentor.attend(x, IN).flatten(2), before.flatten(2)[:, :, order])


def test_self_attention_follows_the_order_of_the_input() -> None:
    torch.manual_seed(0)
    attention = make_augmentor(8, "bottom", IN, attention="self").double()
    x = torch.randn(1, 8, *IN, dtype=torch.float64)
    order = torch.randperm(x[0, 0].numel())
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    torch.testing.assert_close(attention(shuffled).flatten(2), attention(x).flatten(2)[:, :, order])


def test_attention_to_equal_voxels_is_their_value() -> None:
    augmentor = make_augmentor(8, "down", (2, 3, 2), (2, 2, 2)).double()
    voxel = torch.randn(8, dtype=torch.float64)
    x = voxel.reshape(1, 8, 1, 1, 1).expand(1, 8, 4, 6, 4)
    expected = augmentor.values.weight[:, :, 0, 0, 0] @ voxel
    torch.testing.assert_close(
        augmentor.attend(x, (2, 3, 2)), expected.reshape(1, 8, 1, 1, 1).expand(1, 8, 2, 3, 2), atol=1e-12, rtol=0
    )


def test_long_queries_take_their_keys_value() -> None:
    torch.manual_seed(0)
    augmentor = make_augmentor(8, "bottom", IN).double()
    x = torch.randn(1, 8, *IN, dtype=torch.float64)
    keys = augmentor.keys(x).flatten(2)[0].T
    queries = augmentor.queries
    assert isinstance(queries, TrainableQueries)
    chosen = 17
    towards = keys[chosen] - keys.mean(0)
    with torch.no_grad():
        queries.weight.copy_(1e4 * towards.reshape(1, 8, 1, 1, 1).expand_as(queries.weight))
    best = int((keys @ towards).argmax())
    values = augmentor.values(x).flatten(2)[0].T
    found = augmentor.attend(x, IN).flatten(2)[0].T
    torch.testing.assert_close(found, values[best].expand_as(found))


def test_queries_start_about_one_long() -> None:
    weight = TrainableQueries(32, (4, 20, 20)).weight.detach()
    assert float(weight.norm(dim=1).mean()) == pytest.approx(1, abs=0.03)
    assert float(weight.mean()) == pytest.approx(0, abs=0.005)


def test_queries_of_the_built_size_are_the_weights() -> None:
    queries = TrainableQueries(8, IN)
    assert queries(torch.zeros(2, 8, 1, 1, 1), IN) is queries.weight
    # Interpolation to the same size would be the identity, too.
    torch.testing.assert_close(F.interpolate(queries.weight, IN, mode="trilinear"), queries.weight)


@pytest.mark.parametrize(("built", "wanted"), [(4, 8), (8, 4), (8, 12), (6, 9)])
def test_resized_queries_keep_their_place(built: int, wanted: int) -> None:
    queries = TrainableQueries(8, (1, 2, built))

    def places(size: int) -> Tensor:
        return (torch.arange(size) + 0.5) / size

    with torch.no_grad():
        queries.weight.copy_(places(built).expand_as(queries.weight))
    found = queries(torch.zeros(1, 8, 1, 1, 1), (3, 5, wanted))
    inner = (places(wanted) > places(built)[0]) & (places(wanted) < places(built)[-1])
    assert found.shape == (1, 8, 3, 5, wanted)
    torch.testing.assert_close(found[..., inner], places(wanted)[inner].expand(1, 8, 3, 5, -1))


def test_inputs_of_another_size_are_accepted() -> None:
    augmentor = make_augmentor(8, "down", (2, 3, 2), (2, 2, 2))
    assert augmentor(torch.randn(1, 8, 8, 4, 10)).shape == (1, 8, 4, 2, 5)
    assert make_augmentor(8, "up", (3, 6, 4), FLAT)(torch.randn(1, 8, 2, 5, 1)).shape == (1, 8, 2, 10, 2)


def parameters_by_hand(channels: int, queries: int) -> int:
    """Keys and values without a bias, the convolution back with one."""
    return 2 * channels**2 + channels**2 + channels + queries


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (partial(make_augmentor, 8, "down", (2, 3, 4), (2, 2, 2)), parameters_by_hand(8, 8 * 2 * 3 * 4)),
        (partial(make_augmentor, 8, "down", (2, 3, 4), (2, 2, 2), "self"), parameters_by_hand(8, 8 * 8 * 8 + 8)),
        (partial(make_augmentor, 8, "bottom", IN, attention="self"), parameters_by_hand(8, 8 * 8 + 8)),
        (partial(make_augmentor, 8, "up", IN, FLAT, "self"), parameters_by_hand(8, 8 * 8 * 4 + 8)),
    ],
)
def test_parameters_by_hand(make: Made, expected: int) -> None:
    assert sum(weight.numel() for weight in make().parameters()) == expected


def test_scales() -> None:
    assert make_augmentor(32, "bottom", IN).scale == 1.0
    assert make_augmentor(32, "bottom", IN, scaled=True).scale == 1 / sqrt(32)


def test_widths_that_would_leave_the_path_are_refused() -> None:
    with pytest.raises(UserError, match="multiples of 8, but got 12"):
        make_augmentor(12, "bottom", IN)


def test_without_augmentors_it_is_the_residual_network() -> None:
    torch.manual_seed(0)
    network = CleftNet(widths=(8, 8, 16), patch=(4, 8, 8), attention="none").eval()
    other = ResUNet3D(maps=2, widths=(8, 8, 16), patch=(4, 8, 8)).eval()
    other.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(x), other(x))


def test_only_attention_sees_the_whole_volume() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 4, 8, 64)
    changed = x.clone()
    changed[..., -8:] += 5
    for attention, reaches in (("augmentor", True), ("self", True), ("none", False)):
        kind: Any = attention
        network = CleftNet(widths=(8, 8), patch=(4, 8, 64), attention=kind).eval()
        with torch.no_grad():
            difference = (network(x) - network(changed))[..., :8].abs().max()
        assert bool(difference > 0) is reaches


def test_unfit_settings_are_refused() -> None:
    with pytest.raises(UserError, match="one of augmentor, self, none, not 'both'"):
        CleftNet(attention="both")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing to scale"):
        CleftNet(attention="none", scaled_attention=True)
    with pytest.raises(UserError, match="multiples of 8, but got 12"):
        CleftNet(widths=(12, 16), patch=(8, 16, 16))
    scaled = CleftNet(widths=(8, 16), patch=(8, 16, 16), scaled_attention=True)
    found = [each.scale for each in scaled.modules() if isinstance(each, FeatureAugmentor)]
    assert found == pytest.approx([8**-0.5, 16**-0.5, 16**-0.5])
