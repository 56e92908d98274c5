from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_emseg.attribution.captum_methods.operations import operations

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
