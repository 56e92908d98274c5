"""Augmentation on the device: image and mask together, keyed by (seed, epoch, patch) and by nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import kornia.geometry.transform
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.batch import IGNORE, Batch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream

Range = tuple[float, float]


class Augment:
    """Random flips, rotation, zoom, crop, translation, contrast and brightness (Shi et al. 2021).

    All geometry is one affine warp, so pixels are interpolated once: bilinear for the image, nearest neighbour for the
    mask. Pixels that come from outside the patch are mirrored in the image and ignored in the mask.

    Attributes:
        axes: Of the patches that it works on.

    Args:
        flip: Whether to mirror along X and along Y, each with probability 0.5.
        rotation_deg: Largest angle; 180 gives every direction.
        zoom: Range of the scale factor, drawn on a logarithmic scale; above 1 enlarges.
        crop: Range of the share of the side that a random crop keeps; the crop is resized to the whole patch.
        translation: Largest shift along each axis, as a share of the side.
        contrast: Largest relative change of the grey values' distance from their mean, 0–1.
        brightness: Largest shift as a share of the grey range, 0–1 (colour jitter, for grey images).
        noise: Largest standard deviation of Gaussian noise as a share of the grey range, 0–1.
        probability: With which a patch is augmented at all.

    Raises:
        UserError: for a value out of its range.
    """

    axes: ClassVar[int] = 2

    def __init__(
        self,
        flip: bool = True,
        rotation_deg: float = 180.0,
        zoom: Range = (0.9, 1.1),
        crop: Range = (1.0, 1.0),
        translation: float = 0.0,
        contrast: float = 0.2,
        brightness: float = 0.1,
        noise: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        shares = {"contrast": contrast, "brightness": brightness, "noise": noise, "probability": probability}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"data.augment.{name} must lie in 0–1, got {share}")
        if not 0 < zoom[0] <= zoom[1]:
            raise UserError(f"data.augment.zoom must be two rising factors above 0, got {zoom}")
        if not 0 < crop[0] <= crop[1] <= 1:
            raise UserError(f"data.augment.crop must be two rising shares in 0–1, got {crop}")
        self.flip, self.rotation_deg, self.zoom, self.crop = flip, rotation_deg, zoom, crop
        self.translation, self.contrast, self.brightness = translation, contrast, brightness
        self.noise, self.probability = noise, probability

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Augment a batch of 2D patches.

        Args:
            batch: Image ``uint8 (B, C, Y, X)`` and mask ``uint8 (B, Y, X)``, on any device.
            seed: Of the run.
            epoch: Current epoch.

        Returns:
            The batch with image ``float32`` in grey levels 0–255 and mask ``uint8``.
        """
        indices = batch["index"].tolist()
        return self.apply(batch, [self.draw(stream(seed, Purpose.AUGMENTATION, epoch, index)) for index in indices])

    def apply(self, batch: Batch, draws: "Sequence[Draw]") -> Batch:
        """Augment a batch with given parameters.

        Args:
            batch: Batch as for a call.
            draws: Parameters of each patch.

        Returns:
            Batch as from a call.
        """
        image, mask = batch["image"], batch["mask"]
        height, width = image.shape[-2:]
        matrices = torch.from_numpy(np.stack([draw.matrix(height, width) for draw in draws]))
        matrices = matrices.to(image.device, torch.float32)
        grey = warp_image(image, matrices, (height, width))
        warped = warp_mask(mask, matrices, (height, width))
        contrast = torch.tensor([draw.contrast for draw in draws], dtype=torch.float32, device=image.device)
        brightness = torch.tensor([draw.brightness for draw in draws], dtype=torch.float32, device=image.device)
        grey = jitter(grey, contrast, brightness)
        if self.noise:
            grey = grey + patch_noise([draw.noise_seed for draw in draws], [255 * draw.noise for draw in draws], grey)
        grey = grey.clamp(0, 255)
        return Batch(**{**batch, "image": grey, "mask": warped})

    def draw(self, random: np.random.Generator) -> "Draw":
        """Draw the parameters of one patch."""
        values = random.random(11)
        if values[0] >= self.probability:
            return Draw()
        crop = _between(values[1], self.crop)
        low, high = self.zoom
        return Draw(
            flip=(1 - 2 * (self.flip and values[2] < 0.5), 1 - 2 * (self.flip and values[3] < 0.5)),
            angle=math.radians(_between(values[4], (-self.rotation_deg, self.rotation_deg))),
            scale=math.exp(_between(values[5], (math.log(low), math.log(high)))) / crop,
            shift=(
                (values[6] - 0.5) * (1 - crop) + _between(values[7], (-self.translation, self.translation)),
                (values[8] - 0.5) * (1 - crop) + _between(values[9], (-self.translation, self.translation)),
            ),
            contrast=1 + self.contrast * (2 * values[10] - 1),
            brightness=self.brightness * (2 * random.random() - 1),
            noise=self.noise * random.random(),
            noise_seed=int(random.integers(2**62)),
        )


@dataclass(frozen=True)
class Draw:
    """Parameters of one patch; the defaults change nothing. ``shift`` is (y, x) as a share of the side."""

    flip: tuple[int, int] = (1, 1)
    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    contrast: float = 1.0
    brightness: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0

    def matrix(self, height: int, width: int) -> NDArray[np.float64]:
        """Affine map from source to target pixels (x, y), ``float64 (2, 3)``."""
        shift = (self.shift[0] * height, self.shift[1] * width)
        return affine((height, width), self.flip, self.angle, self.scale, shift)


def affine(
    sides: tuple[int, int],
    flip: tuple[int, int] = (1, 1),
    angle: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Map from source to target pixels (x, y) about the centre of a patch, ``float64 (2, 3)``.

    Args:
        sides: Height and width of the patch in px.
        flip: Signs along (y, x), −1 to mirror; before the rotation.
        angle: Of the rotation in radians; positive is clockwise, as Y points down.
        scale: Above 1 enlarges.
        shift: Where the source of the central pixel lies from the centre, (y, x) in px.
    """
    height, width = sides
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    source = centre + np.array([shift[1], shift[0]])
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) * scale * np.array([flip[1], flip[0]])
    return np.concatenate([turn, (centre - turn @ source)[:, None]], axis=1)


def _between(share: float, ends: Range) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def warp_image(image: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Images under affine maps: interpolated bilinearly, and mirrored where they end.

    Args:
        image: Grey levels ``(B, C, Y, X)``.
        matrices: From source to target pixels (x, y), ``float32 (B, 2, 3)``.
        size: Height and width of the results in px.

    Returns:
        ``float32 (B, C, *size)``.
    """
    return _warp(image.float(), matrices, size, "bilinear", "reflection")


def warp_mask(mask: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks ``uint8 (B, Y, X)`` of any classes under affine maps: the nearest pixel, ignored where they end."""
    # The values travel shifted by one, so that 0 can only mean "from outside".
    shifted = _warp(mask[:, None].float() + 1, matrices, size, "nearest", "zeros")[:, 0].round()
    return torch.where(shifted == 0, torch.full_like(shifted, IGNORE), shifted - 1).to(torch.uint8)


def _warp(pixels: Tensor, matrices: Tensor, size: tuple[int, int], mode: str, padding: str) -> Tensor:
    warped: Tensor = kornia.geometry.transform.warp_affine(
        pixels, matrices, size, mode=mode, padding_mode=padding, align_corners=True
    )
    return warped


def patch_noise(seeds: Sequence[int], strengths: Sequence[float], grey: Tensor) -> Tensor:
    """Gaussian noise of the shape of ``grey``, each patch from its own generator on the device.

    Args:
        seeds: One a patch.
        strengths: Standard deviations in grey levels, one a patch.
        grey: ``float32 (B, C, Y, X)``.
    """
    parts = []
    for seed, strength in zip(seeds, strengths, strict=True):
        generator = torch.Generator(grey.device).manual_seed(seed)
        parts.append(torch.randn(grey.shape[1:], generator=generator, device=grey.device) * strength)
    return torch.stack(parts)


def jitter(grey: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Change contrast about each patch's own mean, then brightness; not clipped in between.

    Args:
        grey: Grey levels ``float32 (B, …)``.
        contrast: Factors of the distance from the mean, ``float32 (B,)``.
        brightness: Shifts as shares of the grey range, ``float32 (B,)``.
    """
    mean = grey.mean(dim=tuple(range(1, grey.ndim)), keepdim=True)
    return mean + (grey - mean) * contrast.view(mean.shape) + 255 * brightness.view(mean.shape)
