"""How far images can be distorted before the neurons that fire at them fall silent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_emseg.core.tables import MeanSE, mean_se
from lightning_emseg.features.distortions import DISTORTIONS, Distortion
from lightning_emseg.features.encoder import Encoder

Responses = NDArray[np.float32]
THRESHOLD, NEAR_MAXIMUM = 0.99, 0.9
FEWEST_IMAGES = 10
"""With fewer, no image lies above the 90th percentile but the best one."""


@dataclass(frozen=True)
class Firing:
    """Which images drive which neurons.

    Attributes:
        thresholds: ``float32 (F,)``: response above which a neuron fires.
        near_maximal: ``bool (N, F)``: Z of each neuron, the images above its 90th percentile.
        selective: ``bool (F,)``: neurons that are considered.
    """

    thresholds: Responses
    near_maximal: NDArray[np.bool_]
    selective: NDArray[np.bool_]


@dataclass(frozen=True)
class FiringRates:
    """Mean firing rates of one encoder.

    Attributes:
        neurons: All of its pooled vector.
        selective: Those that were considered; the other are left out of every rate.
        curves: By distortion the mean ± SE over considered neurons at each of its strengths; NaN if there are none.
    """

    neurons: int
    selective: int
    curves: Mapping[str, Sequence[MeanSE]]


def find_firing(noise: Responses, undistorted: Responses) -> Firing:
    """Thresholds and near-maximal images of each neuron (Conrad and Narayan 2021, Methods; Goodfellow et al. 2009).

    A neuron is considered if it fires at *all* images of its Z. The paper's words ("responded to images in Z less
    strongly than the neuron's firing threshold") can also be read of their mean; in the notebook that its authors
    published, the 90th percentile itself must lie above the threshold, from which "all" follows. So the firing rate
    without distortion is 1.

    Args:
        noise: Responses to noise images, ``(M, F)``; the paper has 1,000.
        undistorted: Responses to images, ``(N, F)``; the paper has 100.
    """
    thresholds = np.quantile(noise, THRESHOLD, axis=0).astype(np.float32)
    near_maximal = undistorted > np.quantile(undistorted, NEAR_MAXIMUM, axis=0)
    fires_at_all = ((undistorted > thresholds) | ~near_maximal).all(axis=0)
    return Firing(thresholds, near_maximal, np.logical_and(fires_at_all, near_maximal.any(axis=0)))


def firing_rates(firing: Firing, distorted: Responses) -> NDArray[np.float64]:
    """Firing rate of each considered neuron: the share of Z whose distorted versions still make it fire.

    Args:
        firing: Of the undistorted images.
        distorted: Responses to all of them under one distortion, ``(N, F)``.

    Returns:
        ``float64 (selective neurons,)``, 0–1.
    """
    chosen = firing.near_maximal[:, firing.selective]
    fires = distorted[:, firing.selective] > firing.thresholds[firing.selective]
    rates: NDArray[np.float64] = (fires & chosen).sum(axis=0) / chosen.sum(axis=0)
    return rates


def measure_firing(
    encoder: Encoder,
    images: Tensor,
    noise_images: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
    distortions: Sequence[Distortion] = DISTORTIONS,
    progress: Callable[[int], object] = lambda images: None,
) -> FiringRates:
    """Mean firing rates of an encoder under all distortions.

    Noise is standard normal where the network takes it, as in the published notebook: grey levels with the mean and
    the deviation that images are normalised by. Standard errors, which the paper has none of, are over neurons, as the
    means are; neurons see the same images and are not independent, so that they are rather too small.

    Args:
        encoder: To be looked at.
        images: ``uint8 (N, 1, S, S)``, 10 or more.
        noise_images: Of the same size.
        seed: Of the noise images.
        batch_size: Images at a time.
        distortions: To be applied.
        progress: Told the number of images that were encoded, of :func:`images_needed`.
    """

    def responses(batches: Iterator[Tensor]) -> Responses:
        found = []
        for batch in batches:
            found.append(encoder.features(batch).cpu().numpy())
            progress(len(batch))
        return np.concatenate(found)

    noise = responses(_noise(encoder, noise_images, images.shape[-1], seed, batch_size))
    grey = images.to(encoder.device).float()
    undistorted = responses(map(encoder.normalised, torch.split(grey, batch_size)))
    firing = find_firing(noise, undistorted)
    curves = {}
    for distortion in distortions:
        curve = []
        for strength in distortion.strengths:
            same = strength == distortion.identity
            changed = torch.split(distortion(grey, strength), batch_size)
            distorted = undistorted if same else responses(map(encoder.normalised, changed))
            curve.append(mean_se(firing_rates(firing, distorted).tolist()))
        curves[distortion.name] = curve
    return FiringRates(len(firing.selective), int(firing.selective.sum()), curves)


def images_needed(images: int, noise_images: int, distortions: Sequence[Distortion] = DISTORTIONS) -> int:
    """How many images :func:`measure_firing` encodes."""
    return noise_images + images * (1 + sum(len(each.strengths) - 1 for each in distortions))


def _noise(encoder: Encoder, count: int, side: int, seed: int, batch_size: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, batch_size):
        # One after the other, so that thresholds do not depend on the size of a batch.
        images = [
            torch.randn((encoder.channels, side, side), generator=generator)
            for _ in range(min(batch_size, count - start))
        ]
        yield torch.stack(images).to(encoder.device)
