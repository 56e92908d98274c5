"""Test-time augmentation, and networks of images over volumes."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from data_modules.errors import UserError
from lightning_emseg.inference.averaging import (
    Views,
    average_views,
    orthogonal_mean,
    plane_by_plane,
    restored,
    symmetries,
    transformed,
)
from lightning_emseg.modules.mixin import SegmentationMixin

DIHEDRAL = symmetries("dihedral")


def _numpy_dihedral(array: Any) -> list[Any]:
    """All rotations by quarter turns, as they are and mirrored."""
    return [np.rot90(mirrored, turns) for mirrored in (array, np.fliplr(array)) for turns in range(4)]


def test_the_eight_are_all_rotations_and_mirrored_rotations() -> None:
    square = torch.arange(25).reshape(5, 5)
    found = {tuple(transformed(square, symmetry).flatten().tolist()) for symmetry in DIHEDRAL}
    assert found == {tuple(image.ravel().tolist()) for image in _numpy_dihedral(square.numpy())}
    assert len(found) == 8


def test_flips_are_the_four_that_keep_the_shape() -> None:
    oblong = torch.arange(12).reshape(3, 4)
    shapes = {symmetry: transformed(oblong, symmetry).shape for symmetry in DIHEDRAL}
    assert {symmetry for symmetry, shape in shapes.items() if shape == (3, 4)} == set(symmetries("flips"))
    assert symmetries("none") == (DIHEDRAL[0],)
    assert torch.equal(transformed(oblong, DIHEDRAL[0]), oblong)


@pytest.mark.parametrize("symmetry", DIHEDRAL)
@pytest.mark.parametrize("shape", [(6, 6), (2, 3, 5, 7), (2, 1, 3, 4, 8)])
def test_each_is_undone(symmetry: Any, shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    assert torch.equal(restored(transformed(image, symmetry), symmetry), image)
    # The inverse is one of the eight, too.
    assert any(torch.equal(transformed(transformed(image, symmetry), other), image) for other in DIHEDRAL)


@pytest.mark.parametrize("kind", ["flips", "dihedral"])
def test_mean_of_an_equivariant_network_is_itself(kind: Views) -> None:
    image = torch.rand(2, 1, 24, 40)
    kernel = torch.ones(1, 1, 3, 3)  # the same in all directions

    def predict(images: Tensor) -> Tensor:
        return torch.sigmoid(torch.nn.functional.conv2d(images, kernel, padding=1))[:, 0]

    torch.testing.assert_close(average_views(predict, image, kind), predict(image), rtol=0, atol=1e-6)


def _ramp(images: Tensor) -> Tensor:
    """Probability that grows along X as the network sees it, and four times as fast along Y."""
    *_, height, width = images.shape
    y, x = torch.arange(height)[:, None] / 64, torch.arange(width)[None] / 256
    return (x + y).expand(images.shape[0], *images.shape[2:])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20)])
def test_mean_of_a_ramp(height: int, width: int) -> None:
    image = torch.zeros(3, 1, height, width)
    y, x = (height - 1) / 2, (width - 1) / 2
    found = average_views(_ramp, image, "flips")
    # Every pixel is seen at y and at height − 1 − y equally often, so that the ramp levels out.
    torch.testing.assert_close(found, torch.full((3, height, width), y / 64 + x / 256))
    found = average_views(_ramp, image, "dihedral")
    level = (y / 64 + x / 256 + x / 64 + y / 256) / 2
    torch.testing.assert_close(found, torch.full((3, height, width), level))
    assert torch.equal(average_views(_ramp, image, "none"), _ramp(image))


def test_mean_of_any_network_equals_numpy() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(1, 1, 9, 9)

    def predict(images: Tensor) -> Tensor:
        return torch.sigmoid(network(images))[:, 0]

    total = np.zeros((9, 9))
    with torch.inference_mode():
        for mirrored, turns in itertools.product((False, True), range(4)):
            array = image[0, 0].numpy()[:, ::-1] if mirrored else image[0, 0].numpy()
            seen = np.rot90(array, turns).copy()
            turned = np.rot90(predict(torch.from_numpy(seen)[None, None])[0].numpy(), -turns)
            total += turned[:, ::-1] if mirrored else turned
        found = average_views(predict, image, "dihedral")[0].numpy()
    np.testing.assert_allclose(found, total / 8, atol=1e-6)


def test_volumes_are_turned_in_their_plane() -> None:
    depth = torch.arange(5.0)[:, None, None] / 8

    def predict(images: Tensor) -> Tensor:
        return images[:, 0] * 0 + depth

    image = torch.rand(2, 1, 5, 6, 4)
    torch.testing.assert_close(average_views(predict, image, "dihedral"), predict(image))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(channels: int, layout: torch.memory_format) -> None:
    seen: list[Tensor] = []

    def predict(images: Tensor) -> Tensor:
        seen.append(images)
        return images[:, 0].float()

    image = torch.zeros(2, channels, 8, 12, dtype=torch.uint8).contiguous(memory_format=layout)
    with torch.inference_mode():
        average_views(predict, image, "dihedral")
    assert len(seen) == 8
    assert all(images.is_contiguous(memory_format=layout) and images.dtype == torch.uint8 for images in seen)


@pytest.mark.parametrize(("kind", "calls"), [("none", 1), ("flips", 4), ("dihedral", 8)])
def test_number_of_forward_passes(kind: Views, calls: int) -> None:
    count = 0

    def predict(images: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return images[:, 0]

    average_views(predict, torch.rand(1, 1, 4, 4), kind)
    assert count == calls


def test_non_finite_views_make_the_mean_non_finite() -> None:
    seen = itertools.count()

    def predict(images: Tensor) -> Tensor:
        return images[:, 0] + (float("nan") if next(seen) == 5 else 0)

    assert average_views(predict, torch.rand(1, 1, 4, 4), "dihedral").isnan().all()


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


def module(classes: list[str] | None = None, orthoplane: bool = False) -> SegmentationMixin:
    return SegmentationMixin(network(len(classes or [1])), classes=classes, orthoplane=orthoplane)


def of_image(module: SegmentationMixin, image: np.ndarray[Any, Any]) -> Tensor:
    """Probability of one image ``(Y, X)``: ``(Y, X)`` or ``(K, Y, X)``."""
    scaled = (torch.from_numpy(np.ascontiguousarray(image)) - 127.5) / 127.5
    logits: Tensor = module.network(scaled[None, None])[0]
    return torch.softmax(logits, dim=0) if module.classes else torch.sigmoid(logits[0])


def stacked(module: SegmentationMixin, pixels: Tensor) -> Tensor:
    """Loops over xy planes: ``(B, [K,] Z, Y, X)``."""
    return torch.stack([torch.stack([of_image(module, plane) for plane in each[0].numpy()], dim=-3) for each in pixels])


def in_three_directions(module: SegmentationMixin, pixels: Tensor) -> Tensor:
    """Loops over all planes of three directions, each put back where it was cut out."""
    classes = len(module.classes)
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
def test_views_turn_volumes_in_their_plane(views: Any, classes: list[str] | None, orthoplane: bool) -> None:
    of_planes, pixels = module(classes, orthoplane), volume((2, 6, 6, 6))
    loop = in_three_directions if orthoplane else stacked
    each = [restored(loop(of_planes, transformed(pixels, way).contiguous()), way) for way in symmetries(views)]
    torch.testing.assert_close(
        average_views(of_planes.probability, pixels, views), torch.stack(each).mean(dim=0), **CLOSE
    )


@pytest.mark.parametrize("classes", [None, NAMES])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@torch.no_grad()
def test_non_finite_logits_give_non_finite_probabilities(classes: list[str] | None, value: float) -> None:
    of_planes = module(classes)
    of_planes.network = nn.Identity()
    logits = torch.zeros(1, len(classes or [1]), 3, 3)
    logits[0, -1, 1, 1] = value
    found = of_planes.probability_of(logits)
    assert not found.reshape(-1, 3, 3)[:, 1, 1].isfinite().any()
    assert found.reshape(-1, 9)[:, [0, 1, 2, 3, 5, 6, 7, 8]].isfinite().all()


def test_planes_of_unfit_sides_are_refused() -> None:
    of_planes = SegmentationMixin(network(1), stride=4, orthoplane=True)
    with pytest.raises(UserError, match="takes sides that are multiples of 4 px, not 6"):
        of_planes.probability(volume((1, 6, 8, 8)))
