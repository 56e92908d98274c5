"""Networks of volumes: sizes, and what each does that the others do not."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.networks.sides import check_sides
from lightning_emseg.networks.volumes import AttnUNet3D, CleftNet, ResUNet3D, SegNet3D, UNet3D, VNet
from lightning_emseg.networks.volumes.attnunet3d import AttentionGate
from lightning_emseg.networks.volumes.blocks import Residual
from lightning_emseg.networks.volumes.feature_augmentor import FeatureAugmentor
from lightning_emseg.networks.volumes.levels import Triple, VoxelSize

SMALL = (8, 8, 16, 16, 24)
NETWORKS: dict[str, Callable[..., Any]] = {
    "CleftNet": CleftNet,
    "CleftNet self": partial(CleftNet, attention="self"),
    "CleftNet none": partial(CleftNet, attention="none"),
    "UNet3D": UNet3D,
    "ResUNet3D": ResUNet3D,
    "AttnUNet3D": AttnUNet3D,
    "VNet": VNet,
    "SegNet3D": SegNet3D,
}
BASELINES = [name for name in NETWORKS if name not in ("CleftNet", "CleftNet self")]


@pytest.mark.parametrize(
    ("patch", "voxel_nm", "stride"),
    [
        ((8, 32, 32), None, (8, 16, 16)),
        ((16, 32, 16), None, (16, 16, 16)),
        ((8, 32, 32), (40.0, 4.0, 4.0), (2, 16, 16)),
        ((5, 32, 32), None, (1, 16, 16)),
        ((12, 16, 32), None, (4, 16, 16)),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_depth_and_every_weight_learns(
    name: str, patch: Triple, voxel_nm: VoxelSize | None, stride: Triple
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](in_channels=2, maps=3, widths=SMALL, patch=patch, voxel_nm=voxel_nm)
    assert network.stride == stride
    logits = network(torch.randn(2, 2, *patch))
    assert logits.shape == (2, 3, *patch)
    (logits**2).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_volumes_of_another_size_go(name: str) -> None:
    network = NETWORKS[name](widths=SMALL, patch=(8, 32, 32)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, 16, 64, 48)).shape[2:] == (16, 64, 48)


def unfold(flat: Tensor, size: Triple) -> Tensor:
    return flat.reshape(*flat.shape[:2], *size)


def test_without_augmentors_it_is_the_residual_network() -> None:
    torch.manual_seed(0)
    network = CleftNet(widths=SMALL, patch=(8, 32, 32), attention="none").eval()
    other = ResUNet3D(maps=2, widths=SMALL, patch=(8, 32, 32)).eval()
    other.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(x), other(x))


def test_augmentors_see_the_whole_volume_and_convolutions_do_not() -> None:
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


@pytest.mark.parametrize("name", BASELINES)
def test_translation_by_the_stride_moves_the_output(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](widths=(4, 6, 8), patch=(4, 16, 16))
    x = torch.randn(1, 1, 4, 8, 144)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.momentum = 1.0
    network.train()(x)
    network.eval()
    moved = torch.roll(x, 4, dims=-1)
    with torch.no_grad():
        middle = network(x)[..., 64:76]
        torch.testing.assert_close(network(moved)[..., 68:80], middle, atol=1e-4, rtol=1e-4)
        assert float(middle.std()) > 0.1


def test_residual_is_added_before_the_last_activation() -> None:
    torch.manual_seed(0)
    block = Residual(4).eval()
    norm: Any = block.second[1]
    x = torch.randn(2, 4, 3, 3, 3)
    with torch.no_grad():
        norm.weight.zero_()
        torch.testing.assert_close(block(x), torch.where(x > 0, x, torch.expm1(x)))


def test_stages_of_vnet_are_residual() -> None:
    torch.manual_seed(0)
    network: Any = VNet(widths=(4, 6, 8), patch=(4, 16, 16)).eval()
    stages = [*zip(network.encoder, (1, 6, 8), (4, 6, 8), strict=True)]
    stages += zip(network.decoder, (12, 8), (6, 4), strict=True)
    for stage, before, width in stages:
        x, given = torch.randn(1, before, 2, 4, 4), torch.randn(1, width, 2, 4, 4)
        with torch.no_grad():
            stage.last[1].weight.zero_()
            torch.testing.assert_close(stage(x, given), torch.where(given > 0, given, 0.25 * given))


def test_segnet_puts_values_back_where_the_maxima_were() -> None:
    torch.manual_seed(0)
    network = SegNet3D(widths=(4, 6, 8), patch=(3, 16, 16)).eval()
    seen: dict[str, Tensor] = {}

    def note(name: str, value: Tensor) -> None:
        seen[name] = value

    network.encoder[0].register_forward_hook(lambda module, given, made: note("pooled", made))
    network.decoder[1].register_forward_pre_hook(lambda module, given: note("unpooled", given[0]))
    with torch.no_grad():
        network(torch.randn(1, 1, 3, 16, 16))
    assert network.factors[0] == (1, 2, 2)
    pooled, unpooled = (
        seen[name].reshape(1, 4, 3, 8, 2, 8, 2).permute(0, 1, 2, 3, 5, 4, 6).flatten(5)
        for name in ("pooled", "unpooled")
    )
    # Windows of four voxels: one value each, where the maximum was.
    assert bool(((unpooled != 0).sum(-1) == 1).all())
    assert torch.equal(unpooled.abs().argmax(-1), pooled.argmax(-1))


def test_attention_gate_by_hand() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(4, 6, (1, 1, 1)).eval()
    skip, below = torch.randn(2, 4, 2, 3, 3), torch.randn(2, 6, 2, 3, 3)

    def pointwise(convolution: nn.Conv3d, x: Tensor) -> Tensor:
        out = torch.einsum("oc,bcn->bon", convolution.weight[:, :, 0, 0, 0], x.flatten(2))
        return out if convolution.bias is None else out + convolution.bias[:, None]

    with torch.no_grad():
        hidden = torch.clamp(pointwise(gate.of_skip, skip) + pointwise(gate.of_below, below), min=0)
        weights = 1 / (1 + torch.exp(-pointwise(gate.to_weight, hidden)))
        torch.testing.assert_close(gate.weights(skip, below).flatten(2), weights)
        last: Any = gate.out[0]
        # A fresh batch norm does nothing but divide by √(1 + ε).
        expected = pointwise(last, skip * unfold(weights, (2, 3, 3))) / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(gate(skip, below).flatten(2), expected)


def test_attention_gate_interpolates_from_the_level_below() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(4, 6, (1, 2, 2)).eval()
    weights = gate.weights(torch.randn(1, 4, 3, 8, 8), torch.randn(1, 6, 3, 4, 4)).detach()
    assert weights.shape == (1, 1, 3, 8, 8)
    assert 0 < float(weights.min()) <= float(weights.max()) < 1
    with torch.no_grad():
        gate.to_weight.weight.zero_()
        gate.to_weight.bias.copy_(torch.tensor([100.0]))  # type: ignore[union-attr]
        skip = torch.randn(1, 4, 3, 8, 8)
        torch.testing.assert_close(gate(skip, torch.randn(1, 6, 3, 4, 4)), gate.out(skip))


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_that_do_not_go_are_refused(name: str) -> None:
    with torch.device("meta"):
        network = NETWORKS[name](patch=(8, 32, 32))
        kind = name.split()[0]
        with pytest.raises(UserError, match=rf"{kind} .* multiples of 8 × 16 × 16 voxels, but got 12 × 32 × 32"):
            network(torch.zeros(1, 1, 12, 32, 32))
        with pytest.raises(UserError, match=r"got 8 × 40 × 32; .* e\.g\. \[8, 32, 32\]"):
            network(torch.zeros(1, 1, 8, 40, 32))
        with pytest.raises(UserError, match=rf"{kind} takes volumes .* a batch of 4 axes: .* data\.planes"):
            network(torch.zeros(1, 1, 32, 32))
    with pytest.raises(UserError, match="a height of 40"):
        NETWORKS[name](patch=(8, 40, 32))
    with pytest.raises(UserError, match="at least one level and the bottom"):
        NETWORKS[name](widths=(8,))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_single_voxel_at_the_bottom_is_refused_only_where_batch_norm_trains(name: str) -> None:
    network = NETWORKS[name](widths=(8, 8, 8), patch=(4, 4, 4))
    with pytest.raises(UserError, match=r"one patch of 4 × 4 × 4 voxels to a single voxel, .* larger data\.batch_size"):
        network(torch.zeros(1, 1, 4, 4, 4))
    assert network(torch.zeros(2, 1, 4, 4, 4)).shape[0] == 2
    assert network(torch.zeros(1, 1, 4, 4, 8)).shape[-1] == 8
    for norm in network.modules():
        norm.train(not isinstance(norm, nn.BatchNorm3d))
    assert network(torch.zeros(1, 1, 4, 4, 4)).shape[-1] == 4


def test_settings_that_do_not_go_are_refused() -> None:
    with pytest.raises(UserError, match="one of augmentor, self, none, not 'both'"):
        CleftNet(attention="both")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing to scale"):
        CleftNet(attention="none", scaled_attention=True)
    with pytest.raises(UserError, match="multiples of 8, but got 12"):
        CleftNet(widths=(12, 16), patch=(8, 16, 16))
    scaled = CleftNet(widths=(8, 16), patch=(8, 16, 16), scaled_attention=True)
    found = [each.scale for each in scaled.modules() if isinstance(each, FeatureAugmentor)]
    assert found == pytest.approx([8**-0.5, 16**-0.5, 16**-0.5])


def test_empty_sides_are_refused() -> None:
    with pytest.raises(UserError, match="but got 0 × 16 × 16"):
        check_sides(torch.zeros(1, 1, 0, 16, 16), (8, 16, 16), "It")
