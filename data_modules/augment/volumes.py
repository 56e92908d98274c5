"""Augmentation of volumes: stacks of sections, which may be missing or misaligned."""

import math
from functools import partial
from typing import ClassVar

import numpy as np

from data_modules.augment.transforms import (
    Draw,
    KeyedAugment,
    blank_sections,
    check_shares,
    scale_about_mean,
    scale_sections,
)
from data_modules.errors import UserError


class VolumeAugment(KeyedAugment):
    """Random rotation, flips, grey values, missing and misaligned sections of volumes, keyed as all augmentation is.

    The probabilities of rotation, flips and grey values are those of CleftNet (Liu and Ji 2021, sec. IV-B), which
    states neither angles nor strengths. Voxels of serial sections are thicker than wide, so that rotations are in the
    plane. Rotation, flips and a section's shift are one affine warp, so voxels are interpolated once: bilinear in the
    image, nearest neighbour in the mask. Voxels that come from outside the patch are mirrored in the image and ignored
    in the mask. Missing sections are so in the image alone; their mask is still to be predicted.

    Misaligned sections are of PyTorch Connectomics' two kinds, equally often: one single section is shifted (``slip``
    there), or all from one section on are (``translation``). Sections to begin at are drawn from all but the first.

    Args:
        rotation_probability: Probability that a patch is rotated.
        right_angles: Whether to rotate by 90°, 180° or 270° alone, which blurs nothing; by any angle else.
        flip_probability: Probability that a patch is mirrored along X, along Y, and along Z, each on its own.
        grey_probability: Probability that a patch's grey values change, those of its sections too.
        contrast: Largest relative change of the grey values' distance from the patch's mean, 0–1.
        brightness: Largest shift as a share of the grey range, 0–1.
        section_contrast: Largest further change of contrast, drawn for each section and about its own mean.
        section_brightness: Largest further shift of brightness, drawn for each section.
        missing_probability: Probability that a section is missing.
        missing_grey: Grey level of missing sections, 0–255; ``null`` for the mean of the patch.
        misaligned_probability: Probability that a patch is misaligned.
        shift_px: Largest shift of misaligned sections along X and along Y, in whole px.

    Raises:
        UserError: for a value out of its range.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        rotation_probability: float = 0.5,
        right_angles: bool = False,
        flip_probability: float = 0.5,
        grey_probability: float = 0.2,
        contrast: float = 0.2,
        brightness: float = 0.1,
        section_contrast: float = 0.0,
        section_brightness: float = 0.0,
        missing_probability: float = 0.0,
        missing_grey: float | None = 0.0,
        misaligned_probability: float = 0.0,
        shift_px: int = 16,
    ) -> None:
        shares = {
            "rotation_probability": rotation_probability,
            "flip_probability": flip_probability,
            "grey_probability": grey_probability,
            "contrast": contrast,
            "brightness": brightness,
            "section_contrast": section_contrast,
            "section_brightness": section_brightness,
            "missing_probability": missing_probability,
            "misaligned_probability": misaligned_probability,
        }
        check_shares("data.augment", shares)
        if missing_grey is not None and not 0 <= missing_grey <= 255:
            raise UserError(f"data.augment.missing_grey must lie in 0–255 or be null, got {missing_grey}")
        if shift_px < 1:
            raise UserError(f"data.augment.shift_px must be at least 1, got {shift_px}")
        self.rotation_probability, self.right_angles = rotation_probability, right_angles
        self.flip_probability, self.grey_probability = flip_probability, grey_probability
        self.contrast, self.brightness = contrast, brightness
        self.section_contrast, self.section_brightness = section_contrast, section_brightness
        self.missing_probability = missing_probability
        self.misaligned_probability, self.shift_px = misaligned_probability, shift_px
        sections = (scale_sections,) if section_contrast or section_brightness else ()
        missing = (partial(blank_sections, level=missing_grey),) if missing_probability else ()
        self.changes = (scale_about_mean, *sections, *missing)

    def draw(self, random: np.random.Generator, sides: tuple[int, ...]) -> Draw:
        """Draw the parameters of one patch; see :class:`KeyedAugment`."""
        depth = sides[0]
        # All are drawn always, so that an option changes nothing but its own effect.
        happens = random.random(6) < (
            *[self.flip_probability] * 3,
            self.rotation_probability,
            self.grey_probability,
            self.misaligned_probability,
        )
        angle, contrast, brightness, kind = random.random(4)
        turn = (1 + int(3 * angle)) * math.pi / 2 if self.right_angles else math.pi * (2 * angle - 1)
        first = int(random.integers(1, max(depth, 2)))
        moved = random.integers(-self.shift_px, self.shift_px + 1, 2) * happens[5]
        of_sections = 2 * random.random((2, depth)) - 1
        missing = random.random(depth) < self.missing_probability
        order = np.arange(depth)
        shifted = order == first if kind < 0.5 else order >= first
        return Draw(
            sections=order[::-1].copy() if happens[0] else order,
            flip=(1 - 2 * int(happens[1]), 1 - 2 * int(happens[2])),
            angle=turn if happens[3] else 0.0,
            shift=shifted[:, None] * moved,
            contrast=1 + self.contrast * (2 * contrast - 1) * happens[4],
            brightness=self.brightness * (2 * brightness - 1) * happens[4],
            section_contrast=1 + self.section_contrast * of_sections[0] * happens[4],
            section_brightness=self.section_brightness * of_sections[1] * happens[4],
            missing=missing,
        )
