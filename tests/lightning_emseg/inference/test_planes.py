"""Networks of images over volumes, against loops over single planes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.inference.planes import orthogonal_mean, plane_by_plane
from lightning_emseg.inference.symmetry import averaged, restored, symmetries, transformed
from lightning_emseg.modules.grey_input import GreyInput

CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-6}
SHAPES = st.tuples(st.integers(1, 2), st.integers(2, 20), st.integers(2, 9), st.integers(2, 9))
NAMES = ["background", "mito", "golgi"]


def network(maps: int) -> nn.Module:
    """Its kernels are no one's mirror image, so that every direction and every order of axes shows."""
    torch.manual_seed(maps)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, maps, 3, padding=1)).eval()


def volume(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    batch, *sides = shape
    return 255 * torch.rand(batch, 1, *sides, generator=torch.Generator().manual_seed(seed))


def module(classes: list[str] | None = None, orthoplane: bool = False) -> GreyInput:
    return GreyInput(network(len(classes or [1])), 1, 1, 127.5, 127.5, classes, orthoplane)


def of_image(module: GreyInput, image: np.ndarray[Any, Any]) -> Tensor:
    """Probability of one image ``(Y, X)``: ``(Y, X)`` or ``(K, Y, X)``."""
    scaled = (torch.from_numpy(np.ascontiguousarray(image)) - 127.5) / 127.5
    logits: Tensor = module.network(scaled[None, None])[0]
    return torch.softmax(logits, dim=0) if module.outputs.classes else torch.sigmoid(logits[0])


def stacked(module: GreyInput, pixels: Tensor) -> Tensor:
    """Loops over xy planes: ``(B, [K,] Z, Y, X)``."""
    return torch.stack([torch.stack([of_image(module, plane) for plane in each[0].numpy()], dim=-3) for each in pixels])


def in_three_directions(module: GreyInput, pixels: Tensor) -> Tensor:
    """Loops over all planes of three directions, each put back where it was cut out."""
    classes = len(module.outputs.classes)
    total = torch.zeros(len(pixels), classes or 1, *pixels.shape[2:])
    for number, each in enumerate(pixels):
        array = each[0].numpy()
        depth, height, width = array.shape
        for z in range(depth):
            total[number, :, z] += of_image(module, array[z])
        for y in range(height):
            total[number, :, :, y] += of_image(module, array[:, y])
        for x in range(width):
            total[number, :, :, :, x] += of_image(module, array[:, :, x])
    mean = total / 3
    return mean if classes else mean[:, 0]


@pytest.mark.parametrize("classes", [None, NAMES])
@given(shape=SHAPES, seed=st.integers(0, 1000))
@torch.no_grad()
def test_stack_inference_is_a_loop_over_planes(classes: list[str] | None, shape: tuple[int, ...], seed: int) -> None:
    of_planes, pixels = module(classes), volume(shape, seed)
    found = of_planes.probability(pixels)
    assert found.shape == (shape[0], *([3] if classes else []), *shape[1:])
    torch.testing.assert_close(found, stacked(of_planes, pixels), **CLOSE)


@pytest.mark.parametrize("classes", [None, NAMES])
@given(shape=SHAPES, seed=st.integers(0, 1000))
@torch.no_grad()
def test_orthoplane_inference_is_the_mean_of_three_loops(
    classes: list[str] | None, shape: tuple[int, ...], seed: int
) -> None:
    of_planes, pixels = module(classes, orthoplane=True), volume(shape, seed)
    found = of_planes.probability(pixels)
    torch.testing.assert_close(found, in_three_directions(of_planes, pixels), **CLOSE)
    if classes:
        torch.testing.assert_close(found.sum(dim=1), torch.ones(shape), **CLOSE)


@torch.no_grad()
def test_single_planes_are_seen_from_one_side() -> None:
    pixels = volume((2, 1, 8, 8))
    straight, orthoplane = (module(NAMES, orthoplane=way) for way in (False, True))
    assert torch.equal(straight.probability(pixels), orthoplane.probability(pixels))
    torch.testing.assert_close(
        orthoplane.probability(pixels)[:, :, 0], orthoplane.probability(pixels[:, :, 0]), **CLOSE
    )


@pytest.mark.parametrize(("depth", "passes"), [(8, [16]), (17, [16, 16, 2])])
@torch.no_grad()
def test_planes_of_a_forward_pass_change_nothing(depth: int, passes: list[int]) -> None:
    seen: list[int] = []
    net, pixels = network(2), volume((2, depth, 6, 5))

    def predict(images: Tensor) -> Tensor:
        seen.append(len(images))
        found: Tensor = net(images)
        return found

    with torch.enable_grad():  # all planes at once
        expected = plane_by_plane(net, pixels)
    assert expected.shape == (2, 2, depth, 6, 5)
    torch.testing.assert_close(plane_by_plane(predict, pixels), expected, rtol=0, atol=1e-4)
    assert seen == passes


def test_gradients_go_through_all_planes() -> None:
    of_planes = module(NAMES)
    pixels = volume((2, 20, 5, 6)).requires_grad_()
    of_planes(pixels).square().sum().backward()
    assert pixels.grad is not None
    alone = pixels.detach().clone().requires_grad_()
    sum(of_planes(alone[:, :, z]).square().sum() for z in range(20)).backward()
    torch.testing.assert_close(pixels.grad, alone.grad)


@torch.no_grad()
def test_each_direction_comes_back_to_its_place() -> None:
    pixels = volume((1, 4, 5, 6))
    torch.testing.assert_close(orthogonal_mean(lambda part: part[:, 0], pixels), pixels[:, 0])
    torch.testing.assert_close(
        orthogonal_mean(lambda part: part.expand(1, 3, *part.shape[2:]), pixels), pixels.expand(1, 3, 4, 5, 6)
    )
    # Rows and columns of planes as the network sees them: of xy, xz and yz.
    rows = orthogonal_mean(lambda part: torch.arange(part.shape[-2])[:, None].expand(part[:, 0].shape), pixels)
    z, y, x = torch.meshgrid(torch.arange(4), torch.arange(5), torch.arange(6), indexing="ij")
    torch.testing.assert_close(rows[0], (y + z + z) / 3)
    columns = orthogonal_mean(lambda part: torch.arange(part.shape[-1]).expand(part[:, 0].shape), pixels)
    torch.testing.assert_close(columns[0], (x + x + y) / 3)


@pytest.mark.parametrize("orthoplane", [False, True])
@pytest.mark.parametrize("classes", [None, NAMES])
@pytest.mark.parametrize("views", ["flips", "dihedral"])
@torch.no_grad()
def test_volumes_are_turned_in_their_plane(views: Any, classes: list[str] | None, orthoplane: bool) -> None:
    of_planes, pixels = module(classes, orthoplane), volume((2, 6, 6, 6))
    loop = in_three_directions if orthoplane else stacked
    each = [restored(loop(of_planes, transformed(pixels, way).contiguous()), way) for way in symmetries(views)]
    torch.testing.assert_close(averaged(of_planes.probability, pixels, views), torch.stack(each).mean(dim=0), **CLOSE)


@pytest.mark.parametrize("classes", [None, NAMES])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@torch.no_grad()
def test_non_finite_logits_give_non_finite_probabilities(classes: list[str] | None, value: float) -> None:
    of_planes = module(classes)
    of_planes.network = nn.Identity()
    logits = torch.zeros(1, len(classes or [1]), 3, 3)
    logits[0, -1, 1, 1] = value
    found = of_planes.outputs.probability(logits)
    assert not found.reshape(-1, 3, 3)[:, 1, 1].isfinite().any()
    assert found.reshape(-1, 9)[:, [0, 1, 2, 3, 5, 6, 7, 8]].isfinite().all()


def test_planes_of_unfit_sides_are_refused() -> None:
    of_planes = GreyInput(network(1), 1, 4, 127.5, 127.5, None, True)
    with pytest.raises(UserError, match="takes sides that are multiples of 4 px, not 6"):
        of_planes.probability(volume((1, 6, 8, 8)))
