"""Fields that share passes, or are of cut windows, against fields of whole windows, one pixel after the other."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from data_modules.geometry import Shape
from lightning_emseg.attribution import fields as fields_module
from lightning_emseg.attribution.fields import (
    IntegrationPath,
    cuts_are_safe,
    exact_fields,
    exact_groups,
    is_nearest,
    path_attributions,
    shared_fields,
)
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.network import PixelOutput, box_around, detached_copy, flat_index, receptive_radius
from lightning_emseg.attribution.points import group_pixels
from lightning_emseg.networks.vanilla_unet import VanillaUNet
from lightning_emseg.networks.volumes import UNet3D
from lightning_emseg.networks.wrappers import MultiScaleInput
from tests.support.attribution_checks import fields_of, lattice, settled, windows
from tests.support.global_networks import CornerAligned, Gated

PATH = IntegrationPath(3)
FEW: Sequence[Shape] = [(0, 0), (63, 63), (5, 60), (31, 32), (62, 1)]
MANY: Sequence[Shape] = [*FEW, *lattice((64, 64), (3, 3), (28, 28))[:16]]


def stack(channels: int = 1) -> nn.Module:
    """Nine pixels wide, and nothing is linear."""
    first = [nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, 1)]
    return nn.Sequential(*first, nn.Conv2d(4, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, 1, 3, padding=1))


def strided() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Softplus(), nn.ConvTranspose2d(4, 1, 2, stride=2), nn.Softplus()
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "stack": (stack, 1),
    "strided": (strided, 2),
    "pooled": (
        lambda: nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(1, 2, 3, padding=1), nn.ConvTranspose2d(2, 1, 4, 4)),
        4,
    ),
    "U-Net of depth 1": (lambda: VanillaUNet(base_channels=2, depth=1), 2),
    "U-Net of depth 2": (lambda: VanillaUNet(base_channels=2, depth=2), 4),
    "scales": (lambda: MultiScaleInput(VanillaUNet(base_channels=2, depth=1), (0.5, 1.0), stride=2), 4),
    "corner aligned": (CornerAligned, 4),
    "gate": (Gated, 1),
    "normalised over the window": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.GroupNorm(1, 2), nn.Conv2d(2, 1, 1)),
        1,
    ),
    # Says less than its true stride, as networks that pad inside do.
    "strided, any side": (strided, 1),
}


def made(build: Callable[[], nn.Module], output: str = "logit") -> PixelOutput:
    torch.manual_seed(4)
    network = settled(build())
    return PixelOutput(network, "probability" if output == "probability" else "logit").requires_grad_(False)


def assert_same(found: Sequence[Field], expected: Sequence[Field], shape: Shape, share: float = 1e-5) -> None:
    assert any(truth.values.any() for truth in expected)
    for mine, truth in zip(found, expected, strict=True):
        assert mine.pixel == truth.pixel
        largest = float(np.abs(truth.values).max())
        np.testing.assert_allclose(mine.whole(shape), truth.whole(shape), rtol=0, atol=share * largest)
        np.testing.assert_allclose(mine.output, truth.output, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mine.baseline_output, truth.baseline_output, rtol=1e-5, atol=1e-5)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Shape]:
    """The windows that gradients are computed of."""
    shapes: list[Shape] = []

    def spy(
        answers: nn.Module, image: Tensor, baseline: Tensor, some: Sequence[Tensor], path: IntegrationPath
    ) -> Tensor:
        shapes.append(tuple(image.shape[1:]))
        return path_attributions(answers, image, baseline, some, path)

    monkeypatch.setattr(fields_module, "path_attributions", spy)
    return shapes


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pixels", [FEW, MANY], ids=["few", "many"])
def test_receptive_radius_changes_no_field(name: str, pixels: Sequence[Shape]) -> None:
    build, stride = NETWORKS[name]
    answers = made(build)
    image, baseline = windows(1, 64, 64)
    radius = receptive_radius(answers.network, (64, 64), 1, stride)
    found = fields_of(answers, image, baseline, pixels, PATH, radius, stride)
    assert_same(found, fields_of(answers, image, baseline, pixels, PATH), (64, 64))


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_cheaper_of_cutting_and_sharing_is_used(output: str, seen: list[Shape]) -> None:
    answers = made(stack, output)
    image, baseline = windows(1, 64, 64)
    radius = receptive_radius(answers.network, (64, 64), 1, 1)
    assert radius == (5, 5)
    fields_of(answers, image, baseline, [(0, 0), (40, 40)], PATH, radius)
    assert seen == [(6, 6), (11, 11)]
    seen.clear()
    # All but the border, far apart: cut windows would be about as much work as two whole ones.
    apart = lattice((64, 64), (11, 11), (3, 3))
    fields = fields_of(answers, image, baseline, apart, PATH, radius)
    assert seen == [(64, 64)]
    assert fields[0].values.shape == (9, 9)


def test_cuts_changing_some_answers_are_refused(seen: list[Shape]) -> None:
    answers = made(strided)
    image, baseline = windows(1, 64, 64)
    # Cuts of the first pixel begin at a cell, those of the second within one.
    pixels = [(y, x) for y in range(20, 44, 3) for x in range(21, 45, 3)]
    found = fields_of(answers, image, baseline, pixels, PATH, (3, 3), 1)
    assert seen == [(64, 64)]
    assert_same(found, fields_of(answers, image, baseline, pixels, PATH), (64, 64))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pixels", [FEW, MANY], ids=["few", "many"])
def test_fields_depend_on_their_own_group_only(name: str, pixels: Sequence[Shape]) -> None:
    build, stride = NETWORKS[name]
    answers = made(build)
    image, baseline = windows(1, 64, 64)
    radius = receptive_radius(answers.network, (64, 64), 1, stride)
    cuts = radius is not None and cuts_are_safe(answers.network, image.shape, radius, stride)
    together = exact_groups(pixels, (64, 64), radius, stride, cuts)
    whole = exact_fields(answers, image, baseline, pixels, together, PATH, radius, stride, cuts)
    for group in together:
        some = [pixels[index] for index in group]
        alone = exact_fields(answers, image, baseline, some, [list(range(len(some)))], PATH, radius, stride, cuts)
        for index, field in zip(group, alone, strict=True):
            np.testing.assert_array_equal(field.whole((64, 64)), whole[index].whole((64, 64)))
            assert (field.output, field.baseline_output) == (whole[index].output, whole[index].baseline_output)


@pytest.mark.parametrize("name", ["stack", "U-Net of depth 2", "normalised over the window"])
def test_shared_fields_depend_on_their_own_group_only(name: str) -> None:
    answers = made(NETWORKS[name][0])
    image, baseline = windows(1, 64, 64)
    reach = (6, 6)
    together = group_pixels(MANY, (8, 8))
    assert 1 < len(together) < len(MANY)
    whole = shared_fields(answers, image, baseline, MANY, together, PATH, reach)
    for group in together:
        some = [MANY[index] for index in group]
        alone = shared_fields(answers, image, baseline, some, [list(range(len(some)))], PATH, reach)
        for index, field in zip(group, alone, strict=True):
            np.testing.assert_array_equal(field.values, whole[index].values)
            assert (field.origin, field.output, field.baseline_output) == (
                whole[index].origin,
                whole[index].output,
                whole[index].baseline_output,
            )


def test_cuts_changing_nonempty_images_are_refused(seen: list[Shape]) -> None:
    answers = made(CornerAligned)
    image, baseline = torch.full((1, 64, 64), 200.0), torch.zeros(1, 64, 64)
    found = fields_of(answers, image, baseline, MANY, PATH, (12, 12), 4)
    assert seen == [(64, 64)]
    assert_same(found, fields_of(answers, image, baseline, MANY, PATH), (64, 64))


def test_fields_vanish_outside_the_receptive_field() -> None:
    torch.manual_seed(0)
    answers = PixelOutput(nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(4)))).requires_grad_(False)
    image, baseline = windows(1, 33, 41)
    pixels: list[Shape] = [(0, 0), (16, 20), (32, 1)]
    for field in fields_of(answers, image, baseline, pixels, PATH):
        inside = np.zeros((33, 41), np.bool_)
        inside[tuple(slice(max(0, at - 4), at + 5) for at in field.pixel)] = True
        values = field.whole((33, 41))
        assert not values[~inside].any()
        assert values[inside].all()


@pytest.mark.parametrize("depth", [1, 2])
def test_distant_shared_fields_are_exact(depth: int) -> None:
    answers = made(lambda: VanillaUNet(base_channels=2, depth=depth))
    image, baseline = windows(1, 96, 96)
    radius = receptive_radius(answers.network, (96, 96), 1, 2**depth)
    assert radius is not None
    pixels: list[Shape] = [(0, 0), (95, 95), (48, 40), (3, 90), (50, 95), (47, 41)]
    together = group_pixels(pixels, tuple(2 * reach + 1 for reach in radius))
    assert len(together) < len(pixels)
    found = shared_fields(answers, image, baseline, pixels, together, PATH, radius)
    assert_same(found, fields_of(answers, image, baseline, pixels, PATH), (96, 96))


def test_axes_have_radii_of_their_own() -> None:
    torch.manual_seed(2)
    layers = [nn.Conv3d(2, 3, (1, 3, 5), padding=(0, 1, 2)), nn.ReLU(), nn.Conv3d(3, 1, (3, 3, 1), padding=(1, 1, 0))]
    answers = PixelOutput(nn.Sequential(*layers)).requires_grad_(False)
    image, baseline = windows(2, 8, 17, 19)
    radius = receptive_radius(answers.network, (8, 17, 19), 2, 1)
    assert radius == (2, 3, 3)
    pixels: list[Shape] = [(0, 0, 0), (7, 16, 18), (4, 8, 9), (4, 8, 10), (1, 15, 3)]
    expected = fields_of(answers, image, baseline, pixels, PATH)
    assert_same(fields_of(answers, image, baseline, pixels, PATH, radius), expected, (8, 17, 19))
    together = group_pixels(pixels, tuple(2 * reach + 1 for reach in radius))
    assert_same(shared_fields(answers, image, baseline, pixels, together, PATH, radius), expected, (8, 17, 19))


def test_shared_fields_are_cut_at_the_reach() -> None:
    answers = made(lambda: VanillaUNet(base_channels=2, depth=2))
    image, baseline = windows(1, 48, 48)
    pixels: list[Shape] = [(40, 8), (10, 10), (12, 30), (30, 30)]
    together, reach = [[0, 2], [1, 3]], (9, 13)
    flat = flat_index(pixels, (48, 48))
    sums = path_attributions(answers, image, baseline, [flat[group] for group in together], PATH).numpy()
    found = shared_fields(answers, image, baseline, pixels, together, PATH, reach)
    assert [field.pixel for field in found] == pixels
    for group, total in zip(together, sums, strict=True):
        for y, x in itertools.product(range(48), range(48)):
            # In units of the reach, of which half a pixel is a part.
            distances = [max(abs(y - pixels[index][0]) / 9.5, abs(x - pixels[index][1]) / 13.5) for index in group]
            owner = group[int(np.argmin(distances))]
            kept = abs(y - pixels[owner][0]) <= reach[0] and abs(x - pixels[owner][1]) <= reach[1]
            for index in group:
                expected = total[y, x] if index == owner and kept else 0
                assert found[index].whole((48, 48))[y, x] == expected


@pytest.mark.parametrize("radius", [None, (5, 5)])
def test_empty_and_repeated_pixels_are_handled(radius: Shape | None) -> None:
    answers = made(stack)
    image, baseline = windows(1, 13, 15)
    assert fields_of(answers, image, baseline, [], PATH, radius) == []
    (alone,) = fields_of(answers, image, baseline, [(12, 0)], PATH, radius)
    twice = fields_of(answers, image, baseline, [(12, 0), (12, 0)], PATH, radius)
    assert_same(twice, [alone, alone], (13, 15))


def test_window_of_one_pixel_is_handled() -> None:
    answers = PixelOutput(nn.Conv2d(1, 1, 1)).requires_grad_(False)
    (field,) = fields_of(answers, *windows(1, 1, 1), [(0, 0)], PATH, receptive_radius(answers.network, (1, 1), 1, 1))
    assert field.values.shape == (1, 1)
    assert field.completeness_error < 1e-4


def test_pixels_outside_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="outside a window of"):
        fields_of(made(stack), *windows(1, 8, 8), [(8, 0)], PATH)


def test_completeness_matches_hand_made_field() -> None:
    field = Field((2, 3), (1, 2), np.array([[1.0, -2.5], [0.5, 4.0]], np.float32), output=5.0, baseline_output=1.0)
    assert field.completeness_error == 1
    expected = np.zeros((4, 5), np.float32)
    expected[1:3, 2:4] = [[1, -2.5], [0.5, 4]]
    np.testing.assert_array_equal(field.whole((4, 5)), expected)


@given(data=st.data(), axes=st.integers(1, 3))
def test_places_belong_to_their_nearest_pixel(data: st.DataObject, axes: int) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * axes))
    pixel = st.tuples(*[st.integers(0, side - 1) for side in shape])
    pixels = data.draw(st.lists(pixel, min_size=1, max_size=5, unique=True))
    reach = data.draw(st.tuples(*[st.integers(0, 9)] * axes))
    positions = np.array(pixels)
    owned = np.zeros(shape, np.int64)
    for index, own in enumerate(pixels):
        box = box_around(own, reach, shape)
        mine = is_nearest(own, positions, box, reach)
        owned[box] += mine
        for place in itertools.product(*(range(part.start, part.stop) for part in box)):
            distances = (np.abs(positions - np.array(place)) / (np.array(reach) + 0.5)).max(axis=1)
            inner = tuple(at - part.start for at, part in zip(place, box, strict=True))
            assert mine[inner] == (distances.argmin() == index)
    assert owned.max() <= 1


VOLUME_PATH = IntegrationPath(3)


def test_fields_of_thin_radii_share_passes_exactly() -> None:
    torch.manual_seed(1)
    answers = PixelOutput(nn.Conv3d(1, 1, (3, 9, 9), padding=(1, 4, 4))).requires_grad_(False)
    image, baseline = windows(1, 12, 24, 24)
    # Apart along Z alone, and so near that, in voxels, corners of a field are nearer to the other pixel.
    pixels: list[Shape] = [(2, 12, 12), (7, 12, 12), (2, 6, 12), (11, 23, 23), (7, 0, 23)]
    radius = receptive_radius(answers.network, (12, 24, 24), 1, 1)
    assert radius == (2, 5, 5)
    together = group_pixels(pixels, tuple(2 * reach + 1 for reach in radius))
    assert len(together) < len(pixels)
    expected = fields_of(answers, image, baseline, pixels, VOLUME_PATH)
    shared = shared_fields(answers, image, baseline, pixels, together, VOLUME_PATH, radius)
    for some in (shared, fields_of(answers, image, baseline, pixels, VOLUME_PATH, radius)):
        for field, truth in zip(some, expected, strict=True):
            np.testing.assert_allclose(field.whole((12, 24, 24)), truth.whole((12, 24, 24)), atol=1e-4)


def test_unet_with_thick_voxels_cuts_to_same_fields() -> None:
    torch.manual_seed(3)
    network = UNet3D(patch=(8, 64, 64), widths=(4, 4), voxel_nm=(40.0, 4.0, 4.0))
    copied = detached_copy(network, 127.5, 127.5)
    radius = receptive_radius(copied, (8, 64, 64), 1, network.stride)
    assert radius is not None
    assert radius[1] == radius[2] < 32
    image, baseline = windows(1, 8, 64, 64)
    pixels: list[Shape] = [(0, 0, 0), (7, 60, 3), (4, 3, 60)]
    answers = PixelOutput(copied)
    expected = fields_of(answers, image, baseline, pixels, VOLUME_PATH)
    for field, truth in zip(
        fields_of(answers, image, baseline, pixels, VOLUME_PATH, radius, network.stride), expected, strict=True
    ):
        np.testing.assert_allclose(field.whole((8, 64, 64)), truth.whole((8, 64, 64)), atol=1e-4)
