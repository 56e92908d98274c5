"""The six distortions under which Conrad and Narayan (2021, Figure 3a) watch neurons, at a range of strengths."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur  # type: ignore[import-untyped]

_NOISE_SEED = 0
_BLUR_REACH = 4.0
"""Standard deviations that a blur's kernel reaches to each side."""


@dataclass(frozen=True)
class Distortion:
    """One way to change images, more or less strongly.

    The paper states neither strengths nor borders: strengths are chosen here to reach as far as its text speaks of
    (scale beyond 5), and beyond an edge stands the mirrored image, so that neurons are not tested on black corners.

    Attributes:
        name: Of the distortion.
        axis: What its strength is, with its unit.
        identity: Strength that leaves images as they are.
        strengths: That are measured, rising; the identity among them.
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
            strength: In the unit of ``axis``.

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
