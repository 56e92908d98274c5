"""Firing rates against a slow loop over neurons and images, and against encoders whose answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_emseg.features.distortions import DISTORTIONS
from lightning_emseg.features.encoder import open_encoder
from lightning_emseg.features.firing_rate import Responses, find_firing, firing_rates, images_needed, measure_firing
from tests.support.known_encoders import encoder_of, stacked


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
    found = measure_firing(
        open_encoder("a", "random:test_resnet:0", (127.0, 70.0)), grey, 10, distortions=DISTORTIONS[4:5]
    )
    assert found.neurons == 96
    assert set(found.curves) == {"contrast"}
