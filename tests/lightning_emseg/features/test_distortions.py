"""Distortions against closed forms, scipy and torchvision."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torchvision.transforms import functional  # type: ignore[import-untyped]

from lightning_emseg.features.distortions import (
    DISTORTIONS,
    Distortion,
    blurred,
    brightened,
    contrasted,
    noisy,
    rotated,
    scaled,
)


def textures(side: int = 64) -> Tensor:
    fields = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(3, 1, side, side)), (0, 0, 2, 2))
    return torch.tensor(np.clip(128 + 60 * fields / fields.std(), 0, 255), dtype=torch.float32)


@pytest.mark.parametrize("distortion", DISTORTIONS, ids=lambda distortion: distortion.name)
def test_identity_strength_changes_nothing(distortion: Distortion) -> None:
    images = textures()
    assert distortion.identity in distortion.strengths
    assert list(distortion.strengths) == sorted(set(distortion.strengths))
    assert torch.equal(distortion(images, distortion.identity), images)


@pytest.mark.parametrize("distortion", DISTORTIONS, ids=lambda distortion: distortion.name)
def test_all_strengths_stay_in_8_bit_range(distortion: Distortion) -> None:
    images = textures()
    for strength in distortion.strengths:
        changed = distortion(images, strength)
        assert changed.shape == images.shape
        assert changed.dtype == torch.float32
        # Interpolation rounds.
        assert float(changed.min()) >= -1e-2
        assert float(changed.max()) <= 255 + 1e-2


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3), (360, 4)])
@pytest.mark.parametrize("side", [64, 63])
def test_quarter_turns_are_exact(degrees: int, turns: int, side: int) -> None:
    images = textures(side)
    torch.testing.assert_close(rotated(images, degrees), images.rot90(turns, dims=(2, 3)), rtol=0, atol=5e-2)


def test_rotation_matches_scipy_inside() -> None:
    images = textures()
    wanted = ndimage.rotate(images[0, 0].numpy(), 30, reshape=False, order=1)
    inner = slice(16, 48)
    np.testing.assert_allclose(rotated(images, 30)[0, 0, inner, inner].numpy(), wanted[inner, inner], atol=5e-2)


@given(factor=st.floats(1, 8), slope=st.floats(0.1, 2))
def test_magnification_divides_slopes(factor: float, slope: float) -> None:
    ramp = (slope * torch.arange(64.0)).expand(1, 1, 64, 64)
    middle = slope * 31.5
    wanted = middle + slope / factor * (torch.arange(64.0) - 31.5)
    # Half a pixel at the edges lies outside of all pixel centres.
    torch.testing.assert_close(scaled(ramp, factor)[0, 0, 5, 2:-2], wanted[2:-2], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.75])
def test_reduction_multiplies_slopes_and_mirrors_edges(factor: float) -> None:
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    reduced = scaled(ramp, factor)[0, 0, 20]
    near = slice(round(32 - 32 * factor) + 4, round(32 + 32 * factor) - 4)
    wanted = 31.5 + (torch.arange(64.0) - 31.5) / factor
    torch.testing.assert_close(reduced[near], wanted[near], rtol=1e-3, atol=0.1)
    torch.testing.assert_close(reduced, scaled(ramp.flip(3), factor)[0, 0, 20].flip(0), rtol=1e-4, atol=1e-2)
    assert float(reduced.min()) >= 0
    assert float(reduced.max()) <= 63


def test_reduction_averages_fine_texture_away() -> None:
    noise = torch.randn(4, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    # A mean over 4 × 4 px would leave a quarter; picking pixels and interpolating between them leaves a half.
    assert float(scaled(noise, 0.25)[..., 48:80, 48:80].std()) < 0.25 * float(noise.std())


@pytest.mark.parametrize("sigma", [0.5, 1.5, 3.0])
def test_blur_matches_scipy(sigma: float) -> None:
    images = textures()
    radius = math.ceil(4 * sigma)
    wanted = ndimage.gaussian_filter(images[1, 0].numpy(), sigma, mode="mirror", radius=radius)
    np.testing.assert_allclose(blurred(images, sigma)[1, 0].numpy(), wanted, atol=1e-2)


def test_noise_grows_in_proportion() -> None:
    grey = torch.full((4, 1, 128, 128), 128.0)
    weak, strong = noisy(grey, 5) - grey, noisy(grey, 20) - grey
    assert float(weak.std()) == pytest.approx(5, rel=0.02)
    torch.testing.assert_close(4 * weak, strong, rtol=1e-3, atol=1e-3)
    assert not torch.equal(weak[0], weak[1])


@given(factor=st.floats(0.05, 5))
def test_brightness_and_contrast_match_torchvision(factor: float) -> None:
    images = textures()
    for mine, theirs in ((brightened, functional.adjust_brightness), (contrasted, functional.adjust_contrast)):
        torch.testing.assert_close(mine(images, factor), 255 * theirs(images / 255, factor), rtol=1e-4, atol=1e-2)
