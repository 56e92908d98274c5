"""Augmentation of 2D patches: of Shi et al. 2021, and the resized crops of Conrad and Narayan 2021."""

import math
from functools import partial

import numpy as np

from data_modules.augment.transforms import (
    Change,
    Draw,
    KeyedAugment,
    Range,
    add_noise,
    between,
    blur,
    check_ranges,
    check_shares,
    crop_box,
    scale_about_black,
    scale_about_mean,
    show_box,
)
from data_modules.errors import UserError


class Augment(KeyedAugment):
    """Random flips, rotation, zoom, crop, translation, contrast and brightness (Shi et al. 2021).

    Args:
        flip: Whether to mirror along X and along Y, each with probability 0.5.
        rotation_deg: Largest angle; 180 gives every direction.
        zoom: Range of the scale factor, drawn on a logarithmic scale; above 1 enlarges.
        crop: Range of the share of the side that a random crop keeps; the crop is resized to the whole patch.
        translation: Largest shift along each axis, as a share of the side.
        contrast: Largest relative change of the grey values' distance from their mean, 0–1.
        brightness: Largest shift as a share of the grey range, 0–1 (colour jitter, for grey images).
        noise: Largest standard deviation of Gaussian noise as a share of the grey range, 0–1.
        probability: Probability with which a patch is augmented at all.

    Raises:
        UserError: for a value out of its range.
    """

    changes: tuple[Change, ...] = (scale_about_mean, add_noise)

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
        check_shares("data.augment", shares)
        if not 0 < zoom[0] <= zoom[1]:
            raise UserError(f"data.augment.zoom must be two rising factors above 0, got {zoom}")
        if not 0 < crop[0] <= crop[1] <= 1:
            raise UserError(f"data.augment.crop must be two rising shares in 0–1, got {crop}")
        self.flip, self.rotation_deg, self.zoom, self.crop = flip, rotation_deg, zoom, crop
        self.translation, self.contrast, self.brightness = translation, contrast, brightness
        self.noise, self.probability = noise, probability

    def draw(self, random: np.random.Generator, sides: tuple[int, ...]) -> Draw:
        """Draw the parameters of one patch; see :class:`KeyedAugment`."""
        happens, crops, *flips, turn, zooms, y, moved_y, x, moved_x, contrast = random.random(11)
        if happens >= self.probability:
            return Draw()
        crop = between(crops, self.crop)
        low, high = self.zoom
        scale = math.exp(between(zooms, (math.log(low), math.log(high)))) / crop
        shares = [
            (place - 0.5) * (1 - crop) + between(moved, (-self.translation, self.translation))
            for place, moved in ((y, moved_y), (x, moved_x))
        ]
        return Draw(
            flip=(1 - 2 * (self.flip and flips[0] < 0.5), 1 - 2 * (self.flip and flips[1] < 0.5)),
            scale=(scale, scale),
            angle=math.radians(between(turn, (-self.rotation_deg, self.rotation_deg))),
            shift=(shares[0] * sides[0], shares[1] * sides[1]),
            contrast=1 + self.contrast * (2 * contrast - 1),
            brightness=self.brightness * (2 * random.random() - 1),
            noise=255 * (self.noise * random.random()),
            noise_seed=int(random.integers(2**62)),
        )


class ResizedCropAugment(KeyedAugment):
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
        probability: Probability of each of rotation, brightness with contrast, noise, and blur.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(
        self,
        size: int | None = None,
        crop: Range = (0.08, 1.0),
        aspect: Range = (0.5, 1.5),
        flip: bool = True,
        rotation_deg: float = 180.0,
        contrast: float = 0.3,
        brightness: float = 0.3,
        noise_variance: Range = (0.0, 0.0),
        blur_px: float = 0.0,
        probability: float = 0.5,
    ) -> None:
        check_shares("data.augment", {"contrast": contrast, "brightness": brightness, "probability": probability})
        if size is not None and size < 8:
            raise UserError(f"data.augment.size must be at least 8 px, got {size}")
        check_ranges("data.augment", {"crop": (crop, 1.0), "aspect": (aspect, math.inf)})
        if not 0 <= noise_variance[0] <= noise_variance[1] < math.inf:
            raise UserError(f"data.augment.noise_variance must be two rising numbers from 0, got {noise_variance}")
        if not 0 <= blur_px <= 64:
            raise UserError(f"data.augment.blur_px must lie in 0–64 px, got {blur_px}")
        self.size, self.crop, self.aspect, self.flip, self.rotation_deg = size, crop, aspect, flip, rotation_deg
        self.contrast, self.brightness, self.probability = contrast, brightness, probability
        self.noise_variance, self.blur_px = noise_variance, blur_px
        self.changes = (scale_about_black, add_noise, partial(blur, widest=blur_px))

    def draw(self, random: np.random.Generator, sides: tuple[int, ...]) -> Draw:
        """Draw the parameters of one patch; see :class:`KeyedAugment`."""
        height, width = sides
        box = crop_box(random, (height, width), self.crop, self.aspect)
        scale, shift = show_box(box, (height, width), (self.size or height, self.size or width))
        # All are drawn always, so that an option changes nothing but its own effect.
        happens = random.random(6) < (0.5, 0.5, *[self.probability] * 4)
        values = random.random(5)
        flip = (1 - 2 * int(self.flip and happens[0]), 1 - 2 * int(self.flip and happens[1]))
        return Draw(
            # The flips come last: after one of them, that is to turn the other way round.
            flip=flip,
            scale=scale,
            angle=flip[0] * flip[1] * math.radians(self.rotation_deg * (2 * values[0] - 1)) if happens[2] else 0.0,
            shift=shift,
            contrast=1 + self.contrast * (2 * values[1] - 1) * happens[3],
            brightness=self.brightness * (2 * values[2] - 1) * happens[3],
            noise=math.sqrt(between(values[3], self.noise_variance)) if happens[4] else 0.0,
            blur=self.blur_px * values[4] if happens[5] else 0.0,
            noise_seed=int(random.integers(2**62)),
        )
