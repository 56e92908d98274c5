"""The symmetries of the square and their mean."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_emseg.inference.symmetry import Views, averaged, restored, symmetries, transformed

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

    torch.testing.assert_close(averaged(predict, image, kind), predict(image), rtol=0, atol=1e-6)


def _ramp(images: Tensor) -> Tensor:
    """Probability that grows along X as the network sees it, and four times as fast along Y."""
    *_, height, width = images.shape
    y, x = torch.arange(height)[:, None] / 64, torch.arange(width)[None] / 256
    return (x + y).expand(images.shape[0], *images.shape[2:])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20)])
def test_mean_of_a_ramp(height: int, width: int) -> None:
    image = torch.zeros(3, 1, height, width)
    y, x = (height - 1) / 2, (width - 1) / 2
    found = averaged(_ramp, image, "flips")
    # Every pixel is seen at y and at height − 1 − y equally often, so that the ramp levels out.
    torch.testing.assert_close(found, torch.full((3, height, width), y / 64 + x / 256))
    found = averaged(_ramp, image, "dihedral")
    level = (y / 64 + x / 256 + x / 64 + y / 256) / 2
    torch.testing.assert_close(found, torch.full((3, height, width), level))
    assert torch.equal(averaged(_ramp, image, "none"), _ramp(image))


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
        found = averaged(predict, image, "dihedral")[0].numpy()
    np.testing.assert_allclose(found, total / 8, atol=1e-6)


def test_volumes_are_turned_in_their_plane() -> None:
    depth = torch.arange(5.0)[:, None, None] / 8

    def predict(images: Tensor) -> Tensor:
        return images[:, 0] * 0 + depth

    image = torch.rand(2, 1, 5, 6, 4)
    torch.testing.assert_close(averaged(predict, image, "dihedral"), predict(image))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(channels: int, layout: torch.memory_format) -> None:
    seen: list[Tensor] = []

    def predict(images: Tensor) -> Tensor:
        seen.append(images)
        return images[:, 0].float()

    image = torch.zeros(2, channels, 8, 12, dtype=torch.uint8).contiguous(memory_format=layout)
    with torch.inference_mode():
        averaged(predict, image, "dihedral")
    assert len(seen) == 8
    assert all(images.is_contiguous(memory_format=layout) and images.dtype == torch.uint8 for images in seen)


@pytest.mark.parametrize(("kind", "calls"), [("none", 1), ("flips", 4), ("dihedral", 8)])
def test_number_of_forward_passes(kind: Views, calls: int) -> None:
    count = 0

    def predict(images: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return images[:, 0]

    averaged(predict, torch.rand(1, 1, 4, 4), kind)
    assert count == calls


def test_non_finite_views_make_the_mean_non_finite() -> None:
    seen = itertools.count()

    def predict(images: Tensor) -> Tensor:
        return images[:, 0] + (float("nan") if next(seen) == 5 else 0)

    assert averaged(predict, torch.rand(1, 1, 4, 4), "dihedral").isnan().all()
