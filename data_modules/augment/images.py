"""Augmentation of 2D patches, keyed by seed, epoch and patch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import kornia.filters
import kornia.geometry.transform
import numpy as np
import torch
import torch.nn.functional as F
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


CropRange = tuple[float, float]

_TRIES = 10
"""Crops that are drawn before the largest central one is taken, as torchvision does."""


def crop_box(
    random: np.random.Generator, sides: tuple[int, int], share: CropRange, aspect: CropRange
) -> tuple[int, int, int, int]:
    """A crop, drawn as torchvision's and albumentations' ``RandomResizedCrop`` do.

    Args:
        random: That it is drawn from.
        sides: Height and width of the whole in px.
        share: Range of the crop's share of the area, drawn uniformly.
        aspect: Range of its width over its height, drawn on a logarithmic scale.

    Returns:
        Top, left, height and width in px; of ten that do not fit, the largest central one instead.
    """
    height, width = sides
    for _ in range(_TRIES):
        area = height * width * random.uniform(*share)
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            return int(random.integers(height - down + 1)), int(random.integers(width - across + 1)), down, across
    ratio = min(max(width / height, aspect[0]), aspect[1])
    down, across = min(height, round(width / ratio)), min(width, round(height * ratio))
    return (height - down) // 2, (width - across) // 2, down, across


class ResizedCropAugment(Augment):
    """Resized crop, flips, rotation, brightness and contrast, noise and blur (Conrad and Narayan 2021).

    Source: "Benchmark segmentation tasks" in the paper's methods; what it leaves open is as in its published code
    (albumentations): the order (crop, rotation, brightness and contrast, noise, blur, flips), ``probability``,
    contrast about black (grey · contrast + 255 · brightness, clipped once) and a crop's aspect on a logarithmic scale.
    Other than there, crop, rotation and flips are one affine warp, and what a rotated crop shows beyond itself is the
    patch around it; beyond the patch, the image is mirrored and the mask ignored.

    Args:
        size: Side of the results in px; that of the patch by default. Crops that this shrinks are averaged, so that
            patches may be larger than what the network sees.
        crop: Range of the share of the patch's area that a crop keeps.
        aspect: Range of a crop's width over its height.
        flip: Whether to mirror along X and along Y, each with probability 0.5.
        rotation_deg: Largest angle; 180 gives every direction.
        contrast: Largest relative change of the grey values, 0–1.
        brightness: Largest shift as a share of the grey range, 0–1.
        noise_variance: Range of the variance of Gaussian noise, in grey levels squared; the paper's 400–1200 for Guay
            and All Mitochondria. None by default.
        blur_px: Largest standard deviation of a Gaussian blur, in px of the result. The paper prints 7 for these two
            benchmarks; its code takes 7 px for the width of the kernel, a standard deviation of 0.8–1.4.
        probability: With which each of rotation, brightness with contrast, noise, and blur takes place.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(
        self,
        size: int | None = None,
        crop: CropRange = (0.08, 1.0),
        aspect: CropRange = (0.5, 1.5),
        flip: bool = True,
        rotation_deg: float = 180.0,
        contrast: float = 0.3,
        brightness: float = 0.3,
        noise_variance: CropRange = (0.0, 0.0),
        blur_px: float = 0.0,
        probability: float = 0.5,
    ) -> None:
        super().__init__(
            flip=flip, rotation_deg=rotation_deg, contrast=contrast, brightness=brightness, probability=probability
        )
        if size is not None and size < 8:
            raise UserError(f"data.augment.size must be at least 8 px, got {size}")
        for name, (low, high), most in (("crop", crop, 1.0), ("aspect", aspect, math.inf)):
            if not 0 < low <= high <= most:
                raise UserError(
                    f"data.augment.{name} must be two rising numbers above 0 and up to {most:g}, got {low, high}"
                )
        if not 0 <= noise_variance[0] <= noise_variance[1] < math.inf:
            raise UserError(f"data.augment.noise_variance must be two rising numbers from 0, got {noise_variance}")
        if not 0 <= blur_px <= 64:
            raise UserError(f"data.augment.blur_px must lie in 0–64 px, got {blur_px}")
        self.size, self.crop, self.aspect = size, crop, aspect
        self.noise_variance, self.blur_px = noise_variance, blur_px

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Augment a batch of 2D patches.

        Args:
            batch: Image ``uint8 (B, C, Y, X)`` and mask ``uint8 (B, Y, X)`` of any classes, on any device.
            seed: Of the run.
            epoch: Current epoch.

        Returns:
            The batch with image ``float32 (B, C, S, S)`` in grey levels 0–255 and mask ``uint8 (B, S, S)``, where S is
            ``size``; of the patch's sides where that is none.
        """
        sides = _sides(batch["image"])
        randoms = [stream(seed, Purpose.AUGMENTATION, epoch, index) for index in batch["index"].tolist()]
        return self.apply_crops(batch, [self.draw_crop(random, *sides) for random in randoms])

    def apply_crops(self, batch: Batch, crops: "Sequence[Crop]") -> Batch:
        """Augment a batch with given parameters.

        Args:
            batch: Batch as for a call.
            crops: Parameters of each patch.

        Returns:
            Batch as from a call.
        """
        image, mask = batch["image"], batch["mask"]
        sides = _sides(image)
        target = sides if self.size is None else (self.size, self.size)
        # Results smaller than a patch are means of several samples a pixel, or else they would be aliased.
        fine = max(math.ceil(side / end) for side, end in zip(sides, target, strict=True))
        finer = (target[0] * fine, target[1] * fine)
        grey = warp_image(image, _matrices(crops, finer, image.device), finer)
        grey = self._changed(F.avg_pool2d(grey, fine) if fine > 1 else grey, crops)
        return Batch(**{**batch, "image": grey, "mask": warp_mask(mask, _matrices(crops, target, mask.device), target)})

    def draw_crop(self, random: np.random.Generator, height: int, width: int) -> "Crop":
        """Draw the parameters of one patch of ``height`` × ``width`` px."""
        box = crop_box(random, (height, width), self.crop, self.aspect)
        # All are drawn always, so that an option changes nothing but its own effect.
        happens = random.random(6) < (0.5, 0.5, *[self.probability] * 4)
        values = random.random(5)
        return Crop(
            box=box,
            flip=(1 - 2 * int(self.flip and happens[0]), 1 - 2 * int(self.flip and happens[1])),
            angle=math.radians(self.rotation_deg * (2 * values[0] - 1)) if happens[2] else 0.0,
            contrast=1 + self.contrast * (2 * values[1] - 1) * happens[3],
            brightness=self.brightness * (2 * values[2] - 1) * happens[3],
            noise=math.sqrt(_share_between(values[3], self.noise_variance)) if happens[4] else 0.0,
            blur=self.blur_px * values[4] if happens[5] else 0.0,
            noise_seed=int(random.integers(2**62)),
        )

    def _changed(self, grey: Tensor, draws: "Sequence[Crop]") -> Tensor:
        contrast = torch.tensor([draw.contrast for draw in draws], dtype=torch.float32, device=grey.device)
        brightness = torch.tensor([draw.brightness for draw in draws], dtype=torch.float32, device=grey.device)
        grey = (grey * contrast.view(-1, 1, 1, 1) + 255 * brightness.view(-1, 1, 1, 1)).clamp(0, 255)
        if self.noise_variance[1]:
            noise = patch_noise([draw.noise_seed for draw in draws], [draw.noise for draw in draws], grey)
            grey = (grey + noise).clamp(0, 255)
        return _blurred(grey, [draw.blur for draw in draws], self.blur_px) if self.blur_px else grey


@dataclass(frozen=True)
class Crop:
    """Parameters of one patch: ``box`` (top, left, height, width) and ``blur`` in px, ``noise`` in grey levels."""

    box: tuple[int, int, int, int]
    flip: tuple[int, int] = (1, 1)
    angle: float = 0.0
    contrast: float = 1.0
    brightness: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    noise_seed: int = 0

    def matrix(self, height: int, width: int) -> NDArray[np.float64]:
        """Affine map from pixels (x, y) of the patch to those of a result of these sides, ``float64 (2, 3)``."""
        top, left, down, across = self.box
        centre = np.array([left + across / 2 - 0.5, top + down / 2 - 0.5])
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        # Stretched to the result's sides first and turned then, as two steps after each other would.
        turn = np.array([[cos, -sin], [sin, cos]]) * np.array([width / across, height / down])
        turn *= np.array([[self.flip[1]], [self.flip[0]]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        return np.concatenate([turn, (middle - turn @ centre)[:, None]], axis=1)


def _sides(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])


def _matrices(crops: "Sequence[Crop]", sides: tuple[int, int], device: torch.device) -> Tensor:
    stacked = np.stack([crop.matrix(*sides) for crop in crops])
    return torch.from_numpy(stacked).to(device, torch.float32)


def _blurred(grey: Tensor, widths: list[float], widest: float) -> Tensor:
    """Patches blurred by Gaussians of their own standard deviations in px; those of 0 stay as they are."""
    chosen = [place for place, width in enumerate(widths) if width > 0]
    if not chosen:
        return grey
    places = torch.tensor(chosen, device=grey.device)
    # One kernel width for all, so that a patch is the same in any batch; it is mirrored at the edges.
    radius = min(math.ceil(3 * widest), min(grey.shape[-2:]) - 1)
    sigma = torch.tensor([[widths[place]] * 2 for place in chosen], dtype=torch.float32, device=grey.device)
    soft = kornia.filters.gaussian_blur2d(grey[places], (2 * radius + 1, 2 * radius + 1), sigma.clamp(min=1e-3))
    return grey.index_copy(0, places, soft)


def _share_between(share: float, ends: CropRange) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * share)
