"""Two random views of each tile, keyed by seed, epoch and tile."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from data_modules.augment.transforms import (
    Draw,
    Range,
    add_noise,
    between,
    blur,
    check_ranges,
    check_shares,
    crop_box,
    jitter_grey,
    show_box,
    transform_image,
)
from data_modules.batch import TileBatch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream
from data_modules.tile_set import SIDE

_WIDEST_BLUR_PX = 2.0
"""MoCo v2's, at which the kernel is cut off after three standard deviations."""


class TwoViews:
    """Augmentations of MoCo v2 with what Conrad and Narayan (2021) added: rotation and Gaussian noise.

    Crop, flip and rotation are one affine warp, so that pixels are interpolated once, bilinearly; what a rotated crop
    shows beyond the tile is mirrored. Changes of hue, of saturation and to grey do nothing to grey images and are left
    out.

    Args:
        size: Side S of a view in px.
        crop: Range of the share of a tile's area that a crop keeps.
        aspect: Range of a crop's width over its height, drawn on a logarithmic scale.
        flip: Whether to mirror along X, with probability 0.5.
        rotation_deg: Largest angle; 180 gives every direction.
        jitter: Largest relative change of brightness, and of contrast, 0–1; in random order, clipped after each.
        jitter_probability: Probability that they change at all.
        blur_px: Range of the standard deviation of the Gaussian blur, in px of the view.
        blur_probability: Probability that a view is blurred.
        noise: Range of the standard deviation of Gaussian noise as a share of the grey range, drawn on a logarithmic
            scale; none where both are 0. The default is what the paper prints, which no 8-bit image shows; the
            published code takes these numbers for variances: 0.0032–0.01.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(
        self,
        size: int = SIDE,
        crop: Range = (0.2, 1.0),
        aspect: Range = (3 / 4, 4 / 3),
        flip: bool = True,
        rotation_deg: float = 180.0,
        jitter: float = 0.4,
        jitter_probability: float = 0.8,
        blur_px: Range = (0.1, 2.0),
        blur_probability: float = 0.5,
        noise: Range = (1e-5, 1e-4),
    ) -> None:
        shares = {"jitter": jitter, "jitter_probability": jitter_probability, "blur_probability": blur_probability}
        check_shares("data.views", shares)
        if size < 8:
            raise UserError(f"data.views.size must be at least 8 px, got {size}")
        check_ranges("data.views", {"crop": (crop, 1.0), "aspect": (aspect, math.inf), "blur_px": (blur_px, 4.0)})
        if not (0 < noise[0] <= noise[1] <= 1 or tuple(noise) == (0, 0)):
            raise UserError(f"data.views.noise must be two rising shares above 0, or [0, 0] for none, got {noise}")
        self.size, self.crop, self.aspect, self.flip, self.rotation_deg = size, crop, aspect, flip, rotation_deg
        self.jitter, self.jitter_probability = jitter, jitter_probability
        self.blur_px, self.blur_probability, self.noise = blur_px, blur_probability, noise

    def __call__(self, batch: TileBatch, seed: int, epoch: int) -> TileBatch:
        """Make the views.

        Args:
            batch: Image ``uint8 (B, 1, 224, 224)`` on any device.
            seed: Random seed of the run.
            epoch: Current epoch.

        Returns:
            The batch with ``image`` and ``second``, ``float32 (B, 1, S, S)`` in grey levels 0–255.
        """
        tiles = list(zip(batch["index"].tolist(), batch["extent"].tolist(), strict=True))
        changes = (jitter_grey, partial(blur, widest=_WIDEST_BLUR_PX), partial(add_noise, unit=255.0))
        first, second = (
            transform_image(
                batch["image"],
                [self.draw(stream(seed, Purpose.AUGMENTATION, epoch, index, view), extent) for index, extent in tiles],
                self.size,
                changes,
            )
            for view in range(2)
        )
        return TileBatch(**{**batch, "image": first, "second": second})

    def draw(self, random: np.random.Generator, extent: Sequence[int]) -> Draw:
        """Draw the parameters of one view.

        Args:
            random: Random stream of the view.
            extent: Height and width in px of what the tile shows.
        """
        box = crop_box(random, (extent[0], extent[1]), self.crop, self.aspect)
        stretch, shift = show_box(box, (SIDE, SIDE), (self.size, self.size))
        flips, turn, jitters, order, blurs, width, noise = random.random(7)
        brightness, contrast = 1 + self.jitter * (2 * random.random(2) - 1) * (jitters < self.jitter_probability)
        logs = [math.log(end) for end in self.noise if end]
        strength = math.exp(between(noise, (logs[0], logs[1]))) if logs else 0.0
        return Draw(
            flip=(1, 1 - 2 * int(self.flip and flips < 0.5)),
            angle=math.radians((2 * turn - 1) * self.rotation_deg),
            stretch=stretch,
            shift=shift,
            brightness_factor=float(brightness),
            contrast=float(contrast),
            brightness_first=bool(order < 0.5),
            blur=between(width, self.blur_px) if blurs < self.blur_probability else 0.0,
            noise=strength,
            noise_seed=int(random.integers(2**62)),
        )
