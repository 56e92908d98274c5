"""Fields in volumes of anisotropic voxels and few sections."""

import numpy as np
import torch
from torch import nn

from data_modules.grid import Shape
from lightning_emseg.attribution.fields import fast_fields
from lightning_emseg.attribution.network_copy import detached_copy
from lightning_emseg.attribution.outputs import PixelOutput
from lightning_emseg.attribution.path import Path
from lightning_emseg.attribution.points import groups
from lightning_emseg.attribution.receptive import receptive_radius
from lightning_emseg.networks.volumes import UNet3D
from tests.support.attribution_checks import fields_of, windows

PATH = Path(3)


def test_fields_of_thin_radii_share_passes_exactly() -> None:
    torch.manual_seed(1)
    answers = PixelOutput(nn.Conv3d(1, 1, (3, 9, 9), padding=(1, 4, 4))).requires_grad_(False)
    image, baseline = windows(1, 12, 24, 24)
    # Apart along Z alone, and so near that, in voxels, corners of a field are nearer to the other pixel.
    pixels: list[Shape] = [(2, 12, 12), (7, 12, 12), (2, 6, 12), (11, 23, 23), (7, 0, 23)]
    radius = receptive_radius(answers.network, (12, 24, 24), 1, 1)
    assert radius == (2, 5, 5)
    together = groups(pixels, tuple(2 * reach + 1 for reach in radius))
    assert len(together) < len(pixels)
    expected = fields_of(answers, image, baseline, pixels, PATH)
    shared = fast_fields(answers, image, baseline, pixels, together, PATH, radius)
    for some in (shared, fields_of(answers, image, baseline, pixels, PATH, radius)):
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
    expected = fields_of(answers, image, baseline, pixels, PATH)
    for field, truth in zip(
        fields_of(answers, image, baseline, pixels, PATH, radius, network.stride), expected, strict=True
    ):
        np.testing.assert_allclose(field.whole((8, 64, 64)), truth.whole((8, 64, 64)), atol=1e-4)
