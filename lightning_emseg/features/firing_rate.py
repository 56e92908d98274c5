"""Invariance of neurons to distortions of images."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur  # type: ignore[import-untyped]

from lightning_emseg.core.figures import LINE_STYLES, hex_colour, style_plot
from lightning_emseg.core.tables import MeanSE, mean_se
from lightning_emseg.features.encoder import Encoder

_NOISE_SEED = 0
_BLUR_REACH = 4.0
"""Standard deviations that a blur's kernel reaches to each side."""


@dataclass(frozen=True)
class Distortion:
    """One way to change images, more or less strongly.

    The paper states neither strengths nor borders: strengths are chosen here to reach as far as its text speaks of
    (scale beyond 5), and beyond an edge stands the mirrored image, so that neurons are not tested on black corners.

    Attributes:
        name: Name of the distortion.
        axis: Meaning of its strength, with its unit.
        identity: Strength that leaves images as they are.
        strengths: Strengths that are measured, rising; the identity among them.
        pretraining: Range that the paper's pretraining drew from (MoCo v2's settings, 360° and noise as in its
            Methods), or ``None`` where it is the whole axis.
        change: Function of images and strength, see :meth:`__call__`.
    """

    name: str
    axis: str
    identity: float
    strengths: tuple[float, ...]
    pretraining: tuple[float, float] | None
    change: Callable[[Tensor, float], Tensor]

    def __call__(self, grey: Tensor, strength: float) -> Tensor:
        """Distorted images.

        Args:
            grey: ``float32 (B, 1, S, S)``, grey levels 0–255.
            strength: Strength in the unit of ``axis``.

        Returns:
            The same shape and range; the same images, to the bit, at the identity.
        """
        return grey if strength == self.identity else self.change(grey, strength)


def rotated(grey: Tensor, degrees: float) -> Tensor:
    """Turned counterclockwise about the centre, bilinearly; mirrored beyond the edges."""
    angle = math.radians(degrees)
    return _sampled(grey, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def scaled(grey: Tensor, factor: float) -> Tensor:
    """Magnified about the centre by ``factor``; smaller images are averaged first and mirrored beyond their edges."""
    if factor >= 1:
        return _sampled(grey, [[1 / factor, 0], [0, 1 / factor]])
    side = grey.shape[-1]
    small_side = max(1, round(side * factor))
    small = F.interpolate(grey, size=(small_side, small_side), mode="bilinear", antialias=True, align_corners=False)
    # In units of half an image, the small one ends where the large one has gone this far only.
    reach = side / small_side
    return _sampled(small, [[reach, 0], [0, reach]], side)


def blurred(grey: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` px; mirrored beyond the edges."""
    most = min(grey.shape[-2:]) - 1
    reach = min(math.ceil(_BLUR_REACH * sigma), most)
    soft: Tensor = gaussian_blur(grey, [2 * reach + 1] * 2, [sigma] * 2)
    return soft


def noisy(grey: Tensor, sigma: float) -> Tensor:
    """Gaussian noise of ``sigma`` grey levels, the same pattern at every strength and for every encoder."""
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    pattern = torch.randn(grey.shape, generator=generator).to(grey.device)
    return (grey + sigma * pattern).clamp(0, 255)


def brightened(grey: Tensor, factor: float) -> Tensor:
    """Grey levels times ``factor``, as torchvision's ColorJitter does it."""
    return (grey * factor).clamp(0, 255)


def contrasted(grey: Tensor, factor: float) -> Tensor:
    """Deviations from the image's mean times ``factor``, as torchvision's ColorJitter does it."""
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (grey - mean) * factor).clamp(0, 255)


def _sampled(grey: Tensor, matrix: list[list[float]], side: int | None = None) -> Tensor:
    """Sample where the matrix sends the pixels of a square output (``side`` px), both in halves of an image."""
    count, channels = grey.shape[:2]
    side = side or grey.shape[-1]
    rows = torch.tensor([[*row, 0.0] for row in matrix], device=grey.device)
    grid = F.affine_grid(rows.expand(count, 2, 3), [count, channels, side, side], align_corners=False)
    return F.grid_sample(grey, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


DISTORTIONS = (
    Distortion("rotation", "rotation (°)", 0.0, tuple(map(float, range(0, 361, 30))), None, rotated),
    Distortion("blur", "Gaussian blur, σ (px)", 0.0, (0, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8), (0.1, 2.0), blurred),
    Distortion(
        "noise",
        "Gaussian noise, σ (grey levels)",
        0.0,
        (0, 2, 5, 10, 15, 20, 30, 40, 60, 80, 100),
        (255 * 1e-5, 255 * 1e-4),
        noisy,
    ),
    Distortion(
        "brightness",
        "brightness (factor)",
        1.0,
        (0.25, 0.5, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 2, 2.5),
        (0.6, 1.4),
        brightened,
    ),
    Distortion(
        "contrast", "contrast (factor)", 1.0, (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5), (0.6, 1.4), contrasted
    ),
    # A crop of a fifth of the area is magnified √5 times.
    Distortion("scale", "scale (factor)", 1.0, (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 6, 8), (1, math.sqrt(5)), scaled),
)
"""In the order of Figure 3a: undistorted images stand at 0 in the upper row, at 1 in the lower one."""


Responses = NDArray[np.float32]
FIRING_THRESHOLD, NEAR_MAXIMUM = 0.99, 0.9
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
        curves: Mean ± SE by distortion over considered neurons at each of its strengths; NaN if there are none.
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
    thresholds = np.quantile(noise, FIRING_THRESHOLD, axis=0).astype(np.float32)
    near_maximal = undistorted > np.quantile(undistorted, NEAR_MAXIMUM, axis=0)
    fires_at_all = ((undistorted > thresholds) | ~near_maximal).all(axis=0)
    return Firing(thresholds, near_maximal, np.logical_and(fires_at_all, near_maximal.any(axis=0)))


def firing_rates(firing: Firing, distorted: Responses) -> NDArray[np.float64]:
    """Firing rate of each considered neuron: the share of Z whose distorted versions still make it fire.

    Args:
        firing: Thresholds and near-maximal images of the undistorted images.
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
    progress: Callable[[int], object] = lambda images: None,
) -> FiringRates:
    """Mean firing rates of an encoder under all distortions.

    Noise is standard normal where the network takes it, as in the published notebook: grey levels with the mean and
    the deviation that images are normalised by. Standard errors, which the paper has none of, are over neurons, as the
    means are; neurons see the same images and are not independent, so that they are rather too small.

    Args:
        encoder: Encoder to analyse.
        images: ``uint8 (N, 1, S, S)``, 10 or more.
        noise_images: Number of noise images of the same size.
        seed: Random seed of the noise images.
        batch_size: Images at a time.
        progress: Callback with the number of images that were encoded, of :func:`images_needed`.
    """

    def responses(batches: Iterator[Tensor]) -> Responses:
        found = []
        for batch in batches:
            found.append(encoder.features(batch).cpu().numpy())
            progress(len(batch))
        return np.concatenate(found)

    noise = responses(_noise(encoder, noise_images, images.shape[-1], seed, batch_size))
    grey = images.to(encoder.device).float()
    undistorted = responses(map(encoder.normalise, torch.split(grey, batch_size)))
    firing = find_firing(noise, undistorted)
    curves = {}
    for distortion in DISTORTIONS:
        curve = []
        for strength in distortion.strengths:
            same = strength == distortion.identity
            changed = torch.split(distortion(grey, strength), batch_size)
            distorted = undistorted if same else responses(map(encoder.normalise, changed))
            curve.append(mean_se(firing_rates(firing, distorted).tolist()))
        curves[distortion.name] = curve
    return FiringRates(len(firing.selective), int(firing.selective.sum()), curves)


def images_needed(images: int, noise_images: int) -> int:
    """Count the images that :func:`measure_firing` encodes."""
    return noise_images + images * (1 + sum(len(each.strengths) - 1 for each in DISTORTIONS))


def _noise(encoder: Encoder, count: int, side: int, seed: int, batch_size: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, batch_size):
        # One after the other, so that thresholds do not depend on the size of a batch.
        images = [
            torch.randn((encoder.channels, side, side), generator=generator)
            for _ in range(min(batch_size, count - start))
        ]
        yield torch.stack(images).to(encoder.device)


# With three styles they make eighteen different lines.
_COLOURS = tuple(map(hex_colour, ("blue", "red", "green", "pink", "orange", "light blue")))
_COLUMNS = 3


def firing_rate_figure(rates: Mapping[str, FiringRates]) -> Figure:
    """Draw a panel a distortion: a line an encoder with a band of ± SE, and the paper's pretraining range dashed.

    Args:
        rates: Rates by encoder, with a curve for each distortion.

    Returns:
        11 inches wide.
    """
    rows = len(DISTORTIONS) // _COLUMNS
    figure = Figure(figsize=(11, 1 + 3.1 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    for axes, distortion in zip(panels.flat, DISTORTIONS, strict=True):
        _draw(axes, distortion, rates)
    for axes in panels[:, 0]:
        axes.set_ylabel("mean firing rate")
    lines, names = panels[0, 0].get_legend_handles_labels()
    lines.append(next(axes for axes in panels.flat if axes.get_gid() == "range").lines[0])
    names.append("range of the paper's pretraining")
    figure.legend(lines, names, loc="outside upper center", ncols=min(4, len(lines)), frameon=False)
    return figure


def _draw(axes: Axes, distortion: Distortion, rates: Mapping[str, FiringRates]) -> None:
    for end in distortion.pretraining or ():
        axes.axvline(end, color="black", linestyle=(0, (3, 3)), linewidth=1, zorder=1)
        axes.set_gid("range")
    styles = ((colour, style) for style in LINE_STYLES for colour in _COLOURS)
    for (name, found), (colour, style) in zip(rates.items(), itertools.cycle(styles)):
        curve = found.curves[distortion.name]
        mean = np.array([point.mean for point in curve])
        error = np.array([point.se or 0.0 for point in curve])
        label = f"{name} ({found.selective:,} of {found.neurons:,} neurons)"
        axes.plot(distortion.strengths, mean, color=colour, linestyle=style, marker=".", label=label, zorder=3)
        axes.fill_between(distortion.strengths, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel=distortion.axis, ylim=(0, 1.03))
    axes.margins(x=0.02)
    style_plot(axes)
