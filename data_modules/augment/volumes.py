"""Augmentation of volumes: stacks of sections, which may be missing or misaligned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from data_modules.augment.images import affine, jitter, warp_image, warp_mask
from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream


class VolumeAugment:
    """Random rotation, flips, grey values, missing and misaligned sections of volumes, keyed as all augmentation is.

    The probabilities of rotation, flips and grey values are those of CleftNet (Liu and Ji 2021, sec. IV-B), which
    states neither angles nor strengths. Voxels of serial sections are thicker than wide, so that rotations are in the
    plane. Rotation, flips and a section's shift are one affine warp, so voxels are interpolated once: bilinear in the
    image, nearest neighbour in the mask. Voxels that come from outside the patch are mirrored in the image and ignored
    in the mask. Missing sections are so in the image alone; their mask is still to be predicted.

    Misaligned sections are of PyTorch Connectomics' two kinds, equally often: one single section is shifted (``slip``
    there), or all from one section on are (``translation``). Sections to begin at are drawn from all but the first.

    Attributes:
        axes: Of the patches that it works on.

    Args:
        rotation_probability: With which a patch is rotated.
        right_angles: Whether to rotate by 90°, 180° or 270° alone, which blurs nothing; by any angle else.
        flip_probability: With which a patch is mirrored along X, along Y, and along Z, each on its own.
        grey_probability: With which a patch's grey values change, those of its sections too.
        contrast: Largest relative change of the grey values' distance from the patch's mean, 0–1.
        brightness: Largest shift as a share of the grey range, 0–1.
        section_contrast: As ``contrast``, but drawn for each section and about its own mean; on top of it.
        section_brightness: As ``brightness``, but drawn for each section; on top of it.
        missing_probability: With which a section is missing.
        missing_grey: Grey level of missing sections, 0–255; ``null`` for the mean of the patch.
        misaligned_probability: With which a patch is misaligned.
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
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"data.augment.{name} must lie in 0–1, got {share}")
        if missing_grey is not None and not 0 <= missing_grey <= 255:
            raise UserError(f"data.augment.missing_grey must lie in 0–255 or be null, got {missing_grey}")
        if shift_px < 1:
            raise UserError(f"data.augment.shift_px must be at least 1, got {shift_px}")
        self.rotation_probability, self.right_angles = rotation_probability, right_angles
        self.flip_probability, self.grey_probability = flip_probability, grey_probability
        self.contrast, self.brightness = contrast, brightness
        self.section_contrast, self.section_brightness = section_contrast, section_brightness
        self.missing_probability, self.missing_grey = missing_probability, missing_grey
        self.misaligned_probability, self.shift_px = misaligned_probability, shift_px

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Augment a batch of 3D patches.

        Args:
            batch: Image ``uint8 (B, C, Z, Y, X)`` and mask ``uint8 (B, Z, Y, X)`` of any classes, on any device.
            seed: Of the run.
            epoch: Current epoch.

        Returns:
            The batch with image ``float32`` in grey levels 0–255 and mask ``uint8``.
        """
        depth = batch["mask"].shape[1]
        randoms = [stream(seed, Purpose.AUGMENTATION, epoch, index) for index in batch["index"].tolist()]
        return self.apply(batch, [self.draw(random, depth) for random in randoms])

    def apply(self, batch: Batch, draws: "Sequence[VolumeDraw]") -> Batch:
        """Augment a batch with given parameters.

        Args:
            batch: Batch as for a call.
            draws: Parameters of each patch.

        Returns:
            Batch as from a call.
        """
        image, mask = batch["image"], batch["mask"]
        height, width = mask.shape[2:]
        places = torch.from_numpy(np.stack([draw.sections for draw in draws])).to(image.device)
        patches = torch.arange(len(draws), device=image.device)[:, None]
        maps = np.concatenate([draw.matrices(height, width) for draw in draws])
        matrices = torch.from_numpy(maps).to(image.device, torch.float32)
        # Sections are warped as images of their own: (B, Z, C, Y, X), then (B · Z, C, Y, X).
        sections = image.transpose(1, 2)[patches, places].flatten(0, 1)
        warped = warp_mask(mask[patches, places].flatten(0, 1), matrices, (height, width)).view(mask.shape)
        grey = warp_image(sections, matrices, (height, width)).view(*places.shape, -1, height, width)
        grey = self._changed(grey, draws).clamp(0, 255).transpose(1, 2).contiguous()
        return Batch(**{**batch, "image": grey, "mask": warped})

    def draw(self, random: np.random.Generator, depth: int) -> "VolumeDraw":
        """Draw the parameters of one patch of ``depth`` sections."""
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
        return VolumeDraw(
            sections=order[::-1].copy() if happens[0] else order,
            flip=(1 - 2 * int(happens[1]), 1 - 2 * int(happens[2])),
            angle=turn if happens[3] else 0.0,
            shifts=shifted[:, None] * moved,
            contrast=1 + self.contrast * (2 * contrast - 1) * happens[4],
            brightness=self.brightness * (2 * brightness - 1) * happens[4],
            section_contrast=1 + self.section_contrast * of_sections[0] * happens[4],
            section_brightness=self.section_brightness * of_sections[1] * happens[4],
            missing=missing,
        )

    def _changed(self, grey: Tensor, draws: "Sequence[VolumeDraw]") -> Tensor:
        """Grey levels ``(B, Z, C, Y, X)`` with contrast, brightness and missing sections."""

        def stacked(values: Sequence[ArrayLike]) -> Tensor:
            return torch.from_numpy(np.array(values, np.float32)).to(grey.device)

        contrast = stacked([draw.contrast for draw in draws])
        grey = jitter(grey, contrast, stacked([draw.brightness for draw in draws]))
        if self.section_contrast or self.section_brightness:
            factors = stacked([draw.section_contrast for draw in draws]).flatten()
            shifts = stacked([draw.section_brightness for draw in draws]).flatten()
            grey = jitter(grey.flatten(0, 1), factors, shifts).view(grey.shape)
        if not self.missing_probability:
            return grey
        missing = stacked([draw.missing for draw in draws]).bool()[:, :, None, None, None]
        mean = grey.mean(dim=(1, 2, 3, 4), keepdim=True)
        fill = mean if self.missing_grey is None else torch.full_like(mean, self.missing_grey)
        return torch.where(missing, fill, grey)


@dataclass(frozen=True)
class VolumeDraw:
    """Parameters of one patch.

    ``sections`` are those that the result's sections come from; ``shifts`` are where their content comes from,
    ``int (Z, 2)`` in px (y, x), before flip and rotation.
    """

    sections: NDArray[np.int64]
    flip: tuple[int, int]
    angle: float
    shifts: NDArray[np.int64]
    contrast: float
    brightness: float
    section_contrast: NDArray[np.float64]
    section_brightness: NDArray[np.float64]
    missing: NDArray[np.bool_]

    def matrices(self, height: int, width: int) -> NDArray[np.float64]:
        """Affine map from source to target pixels (x, y) of each section, ``float64 (Z, 2, 3)``."""
        return np.stack([affine((height, width), self.flip, self.angle, shift=(y, x)) for y, x in self.shifts.tolist()])
