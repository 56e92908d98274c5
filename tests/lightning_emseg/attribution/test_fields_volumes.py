"""Windows, radii, reaches, baselines and fields in volumes, whose voxels are not cubes and whose sections are few."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from data_modules.grid import Shape
from lightning_emseg.attribution.accuracy import effective_reach
from lightning_emseg.attribution.baselines import baseline_window
from lightning_emseg.attribution.fields import Field, exact_fields, fast_fields
from lightning_emseg.attribution.network_copy import detached_copy
from lightning_emseg.attribution.outputs import PixelOutput
from lightning_emseg.attribution.path import Path
from lightning_emseg.attribution.points import groups
from lightning_emseg.attribution.receptive import receptive_radius
from lightning_emseg.networks.volumes import CleftNet, UNet3D
from tests.support.attribution_checks import windows

PATH = Path(3)


def convolution(z: int, y: int, x: int) -> nn.Module:
    torch.manual_seed(1)
    layer = nn.Conv3d(1, 1, (z, y, x), padding=(z // 2, y // 2, x // 2))
    return layer.eval().requires_grad_(False)


@pytest.mark.parametrize("attention", ["augmentor", "self"])
def test_global_attention_has_no_radius(attention: str) -> None:
    network = CleftNet(patch=(4, 16, 16), widths=(8, 8), attention=attention)  # type: ignore[arg-type]
    assert receptive_radius(detached_copy(network, 127.5, 127.5), (4, 16, 16), 1, network.stride) is None


def test_few_sections_are_taken_whole() -> None:
    network = convolution(7, 5, 3)
    # Three sections on each side: more than half of six.
    assert receptive_radius(network, (6, 32, 40), 1, 1) == (6, 3, 2)
    assert receptive_radius(network, (1, 32, 40), 1, 1) == (1, 3, 2)
    # A plane that is crossed is crossed.
    assert receptive_radius(network, (16, 4, 40), 1, 1) is None


def test_fields_of_thin_radii_share_passes_exactly() -> None:
    answers = PixelOutput(convolution(3, 9, 9)).requires_grad_(False)
    image, baseline = windows(1, 12, 24, 24)
    # Apart along Z alone, and so near that, in voxels, corners of a field are nearer to the other pixel.
    pixels: list[Shape] = [(2, 12, 12), (7, 12, 12), (2, 6, 12), (11, 23, 23), (7, 0, 23)]
    radius = receptive_radius(answers.network, (12, 24, 24), 1, 1)
    assert radius == (2, 5, 5)
    together = groups(pixels, tuple(2 * reach + 1 for reach in radius))
    assert len(together) < len(pixels)
    expected = exact_fields(answers, image, baseline, pixels, PATH)
    shared = fast_fields(answers, image, baseline, pixels, together, PATH, radius)
    for some in (shared, exact_fields(answers, image, baseline, pixels, PATH, radius)):
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
    expected = exact_fields(answers, image, baseline, pixels, PATH)
    for field, truth in zip(
        exact_fields(answers, image, baseline, pixels, PATH, radius, network.stride), expected, strict=True
    ):
        np.testing.assert_allclose(field.whole((8, 64, 64)), truth.whole((8, 64, 64)), atol=1e-4)


def test_sections_have_a_reach_of_their_own() -> None:
    values = np.zeros((9, 41, 41), np.float32)
    values[3:6, 10:31, 10:31] = 1
    assert effective_reach([Field((4, 20, 20), (0, 0, 0), values, 0.0, 0.0)], 0.01) == (1, 10, 10)


def test_reach_keeps_the_share_of_a_volume() -> None:
    random = np.random.default_rng(2)
    places = random.normal((8, 40, 40), (1.5, 8, 8), (400, 3)).round().astype(int)
    values = np.zeros((17, 81, 81), np.float32)
    values[tuple(places.clip(0, (16, 80, 80)).T)] = 1
    reach = effective_reach([Field((8, 40, 40), (0, 0, 0), values, 0.0, 0.0)], 0.01, kept=0.9)
    inside = values[8 - reach[0] : 9 + reach[0], 40 - reach[1] : 41 + reach[1], 40 - reach[2] : 41 + reach[2]]
    assert inside.sum() >= 0.9 * values.sum()
    assert reach[1] == reach[2] > reach[0]


def test_volumes_are_blurred_section_by_section() -> None:
    image = np.random.default_rng(3).uniform(0, 255, (1, 5, 40, 44)).astype(np.float32)
    found = baseline_window("blurred", image, (0, 0), (0, 0, 0), (40.0, 50.0, 25.0))
    for section, blurred in zip(image[0], found[0], strict=True):
        np.testing.assert_allclose(blurred, gaussian_filter(section, (4.0, 8.0), mode="reflect"), rtol=1e-5)
