"""CASENet: classes stay apart, sides are placed class by class, any size goes."""

import numpy as np
import pytest
import torch
from torch import nn

from data_modules.errors import UserError
from lightning_emseg.networks.casenet import CASENet, sliced_concatenation


def test_sliced_concatenation_by_hand() -> None:
    sides = [torch.full((1, 2, 1, 1), 10.0 * side) + torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1) for side in range(5)]
    expected = [0, 10, 20, 30, 40, 1, 11, 21, 31, 41]
    assert sliced_concatenation(sides).flatten().tolist() == expected


@pytest.mark.parametrize("fusion_batch_norm", [False, True])
def test_class_depends_on_its_own_side_maps_alone(fusion_batch_norm: bool) -> None:
    torch.manual_seed(0)
    network = CASENet("resnet18", classes=2, fusion_batch_norm=fusion_batch_norm).eval()
    nn.init.normal_(network.fusion.weight)
    sides = [torch.randn(1, 2, 6, 5) for _ in range(5)]
    before = network.fuse(sides)
    for side in range(5):
        changed = [map_.clone() for map_ in sides]
        changed[side][:, 1] += 1
        after = network.fuse(changed)
        assert torch.equal(after[:, 0], before[:, 0])
        assert torch.all(after[:, 1] != before[:, 1])


def test_fusion_is_the_weighted_sum_of_the_class() -> None:
    torch.manual_seed(0)
    network = CASENet("resnet18", classes=2)
    nn.init.normal_(network.fusion.weight)
    assert network.fusion.bias is not None
    nn.init.normal_(network.fusion.bias)
    sides = [torch.randn(2, 2, 3, 4) for _ in range(5)]
    fused = network.fuse(sides).detach().numpy()
    for k in range(2):
        weights = network.fusion.weight.detach()[k].flatten().tolist()
        expected = sum(w * side.numpy()[:, k] for w, side in zip(weights, sides, strict=True))
        np.testing.assert_allclose(fused[:, k], expected + network.fusion.bias[k].item(), atol=1e-5)


def test_starts_as_the_mean_of_its_sides() -> None:
    network = CASENet("resnet18").eval()
    x = torch.randn(1, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.stack(network.side_maps(x)).mean(dim=0))


@pytest.mark.parametrize(("encoder", "size"), [("resnet18", (64, 64)), ("resnet18", (61, 35)), ("resnet50", (33, 35))])
def test_any_size_and_every_parameter_learns(encoder: str, size: tuple[int, int]) -> None:
    network = CASENet(encoder, in_channels=1, classes=2)
    x = torch.randn(2, 1, *size)
    sides = network.side_maps(x)
    assert [tuple(side.shape) for side in sides] == [(2, 2, *size)] * 5
    logits = network(x)
    assert logits.shape == (2, 2, *size)
    (logits**2).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.stride == 1


def test_default_is_resnet_152_with_five_sides() -> None:
    with torch.device("meta"):
        network = CASENet()
        assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)
    convolutions = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
    # 1 + 3 · (3 + 8 + 36 + 3) convolutions on the main path and 4 projections; the 152nd layer is the dropped fc.
    assert len(convolutions) == 1 + 3 * 50 + 4
    assert [tuple(side.weight.shape[:2]) for side in network.sides if isinstance(side, nn.Conv2d)] == [
        (1, width) for width in (64, 256, 512, 1024, 2048)
    ]


def test_published_variant_normalises_the_concatenated_maps() -> None:
    network = CASENet("resnet18", fusion_batch_norm=True).train()
    network(3 * torch.randn(2, 1, 32, 32) + 5)
    assert isinstance(network.norm, nn.BatchNorm2d)
    assert network.norm.num_features == 5


@pytest.mark.parametrize(("encoder", "message"), [("nonsense", "no encoder 'nonsense'"), ("convnext_atto", "has 4")])
def test_unfit_encoders_are_refused(encoder: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        CASENet(encoder)
