"""Distortions against closed forms, scipy and torchvision."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torchvision.transforms import functional  # type: ignore[import-untyped]

from lightning_emseg.core.tables import MeanSE
from lightning_emseg.features.encoder import open_encoder
from lightning_emseg.features.firing_rate import (
    DISTORTIONS,
    Distortion,
    FiringRates,
    Responses,
    blurred,
    brightened,
    contrasted,
    find_firing,
    firing_rate_figure,
    firing_rates,
    images_needed,
    measure_firing,
    noisy,
    rotated,
    scaled,
)
from tests.support.known_encoders import encoder_of, stacked


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


def slow_rates(noise: Responses, undistorted: Responses, distorted: Responses) -> list[float]:
    """The paper's sentences one after the other, neuron by neuron."""
    rates = []
    for neuron in range(noise.shape[1]):
        threshold = np.float32(np.percentile(noise[:, neuron], 99))
        near_maximum = np.percentile(undistorted[:, neuron], 90)
        z = [image for image in range(len(undistorted)) if undistorted[image, neuron] > near_maximum]
        if not z or any(undistorted[image, neuron] <= threshold for image in z):
            continue
        firing = [image for image in z if distorted[image, neuron] > threshold]
        rates.append(len(firing) / len(z))
    return rates


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(10, 60), shift=st.floats(-1, 3), levels=st.integers(2, 50))
def test_rates_match_a_slow_loop(seed: int, images: int, shift: float, levels: int) -> None:
    random = np.random.default_rng(seed)

    def responses(count: int) -> Responses:
        # Few levels make ties, zeros are neurons behind a ReLU.
        values = np.maximum(np.round(levels * random.normal(size=(count, 12))) / levels, 0)
        return values.astype(np.float32)

    noise, undistorted = responses(100), (responses(images) + np.float32(shift)).astype(np.float32)
    distorted = np.maximum(undistorted - random.exponential(0.5, undistorted.shape), 0).astype(np.float32)
    firing = find_firing(noise, undistorted)
    assert firing_rates(firing, distorted).tolist() == slow_rates(noise, undistorted, distorted)
    assert firing.selective.sum() == len(slow_rates(noise, undistorted, distorted))


def test_selective_neurons_fire_at_undistorted_images() -> None:
    random = np.random.default_rng(1)
    noise, undistorted = random.normal(size=(1000, 50)), random.normal(1, 1, size=(100, 50))
    firing = find_firing(noise.astype(np.float32), undistorted.astype(np.float32))
    assert 0 < firing.selective.sum() < 50
    assert firing.near_maximal.sum(axis=0).tolist() == [10] * 50
    assert firing_rates(firing, undistorted.astype(np.float32)).tolist() == [1] * int(firing.selective.sum())


def brightness(normalised: Tensor) -> Tensor:
    """A neuron for bright images, one for dark ones, and one that is always the same."""
    mean = normalised.mean(dim=(1, 2, 3))
    return stacked(mean, -mean, torch.full_like(mean, 5.0))


def test_brightness_neuron_has_hand_computed_rates() -> None:
    # Twenty images of one grey level each: 102, 104, …, 140. Z of the first neuron are the two brightest (138, 140);
    # the second never fires, as all images are brighter than the mean, and the third has no near-maximal image.
    grey = (100 + 2 * torch.arange(1, 21)).to(torch.uint8).view(-1, 1, 1, 1).expand(20, 1, 32, 32)
    encoder = encoder_of(brightness, mean=100, std=20)
    found = measure_firing(encoder, grey, noise_images=200, batch_size=7)
    assert (found.neurons, found.selective) == (3, 1)
    # Noise means have a deviation of 1/32, so that the threshold is about 0.07, which is grey level 101.5.
    rates = {
        each.name: dict(zip(each.strengths, (point.mean for point in found.curves[each.name]), strict=True))
        for each in DISTORTIONS
    }
    assert all(rate == 1 for name in ("rotation", "blur", "contrast", "scale") for rate in rates[name].values())
    assert rates["brightness"][0.6] == 0
    assert rates["brightness"][0.8] == 1
    assert rates["brightness"][2.5] == 1
    assert all(point.se is None for point in found.curves["brightness"])


def test_standard_errors_are_over_neurons() -> None:
    grey = (100 + 2 * torch.arange(1, 21)).to(torch.uint8).view(-1, 1, 1, 1).expand(20, 1, 32, 32)

    def two_neurons(normalised: Tensor) -> Tensor:
        mean = normalised.mean(dim=(1, 2, 3))
        # The second one sees brightness above a level only that noise never has.
        return stacked(mean, (mean - 1.5).clamp(min=0))

    found = measure_firing(encoder_of(two_neurons, 100, 20), grey, 100)
    assert found.selective == 2
    curve = next(each for each in DISTORTIONS if each.name == "brightness").strengths
    point = found.curves["brightness"][curve.index(0.8)]
    # 110 and 112 remain: above 101.5, but below 130.
    assert (point.mean, point.se, point.n) == (0.5, 0.5, 2)


def test_without_selective_neurons_rates_are_nan() -> None:
    grey = torch.full((10, 1, 32, 32), 90, dtype=torch.uint8)
    found = measure_firing(encoder_of(brightness, 100, 20), grey, 20)
    assert found.selective == 0
    assert all(np.isnan(point.mean) for curve in found.curves.values() for point in curve)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_no_rates(batch_size: int) -> None:
    grey = torch.randint(0, 256, (10, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    encoder = encoder_of(brightness, 120, 60)
    counted: list[int] = []
    found = measure_firing(encoder, grey, 20, seed=3, batch_size=batch_size, progress=counted.append)
    assert sum(counted) == images_needed(10, 20)
    whole = measure_firing(encoder, grey, 20, seed=3, batch_size=1000)
    assert found == whole
    assert [len(curve) for curve in found.curves.values()] == [len(each.strengths) for each in DISTORTIONS]


def test_resnet_neurons_are_its_pooled_features() -> None:
    grey = torch.randint(0, 256, (10, 1, 32, 32), dtype=torch.uint8)
    found = measure_firing(open_encoder("a", "random:test_resnet:0", (127.0, 70.0)), grey, 10)
    assert found.neurons == 96


def rates(height: float, selective: int = 10) -> FiringRates:
    curves = {
        each.name: [MeanSE(height / (1 + index), 0.01, selective) for index in range(len(each.strengths))]
        for each in DISTORTIONS
    }
    return FiringRates(512, selective, curves)


def test_panels_show_distortions_with_lines_for_encoders() -> None:
    figure = firing_rate_figure({"a": rates(1.0), "b": rates(0.8)})
    for axes, distortion in zip(figure.axes, DISTORTIONS, strict=True):
        assert axes.get_xlabel() == distortion.axis
        # Dotted vertical lines have two points, and no marker.
        first, second = (np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == ".")
        np.testing.assert_allclose(first[:, 1], 1 / np.arange(1, len(distortion.strengths) + 1))
        np.testing.assert_allclose(second[:, 1], 0.8 * first[:, 1])
        assert first[:, 0].tolist() == second[:, 0].tolist() == list(distortion.strengths)
        ends = [np.asarray(line.get_xydata())[0, 0] for line in axes.lines if line.get_marker() != "."]
        assert ends == list(distortion.pretraining or ())


def test_bands_span_one_standard_error() -> None:
    axes = firing_rate_figure({"a": rates(1.0)}).axes[0]
    (band,) = axes.collections
    (path,) = band.get_paths()
    vertices = np.asarray(path.vertices)
    assert np.ptp(vertices[np.isclose(vertices[:, 0], 0), 1]) == pytest.approx(0.02)


def test_legend_counts_selective_neurons() -> None:
    (legend,) = firing_rate_figure({"a": rates(1.0, 10), "b": rates(0.5, 0)}).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["a (10 of 512 neurons)", "b (0 of 512 neurons)", "range of the paper's pretraining"]


def test_many_encoders_and_missing_rates_are_drawn() -> None:
    missing = FiringRates(
        512, 0, {each.name: [MeanSE(float("nan"), None, 0)] * len(each.strengths) for each in DISTORTIONS}
    )
    file = io.BytesIO()
    firing_rate_figure({**{str(number): rates(0.5) for number in range(20)}, "none": missing}).savefig(file, dpi=50)
    assert file.getbuffer().nbytes > 10_000
