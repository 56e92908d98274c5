"""Two random views of each tile, keyed by seed, epoch and tile."""

import math
from dataclasses import dataclass

import kornia.filters
import kornia.geometry.transform
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data_modules.augment.images import CropRange, crop_box
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream
from data_modules.tile_images import TileBatch
from data_modules.tile_set import SIDE

_BLUR_PX = 13
"""Side of the kernel; 3 standard deviations at MoCo v2's widest."""


class TwoViews:
    """The augmentations of MoCo v2 with what Conrad and Narayan (2021) added: rotation and Gaussian noise.

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
        jitter_probability: With which they change at all.
        blur_px: Range of the standard deviation of the Gaussian blur, in px of the view.
        blur_probability: With which a view is blurred.
        noise: Range of the standard deviation of Gaussian noise as a share of the grey range, drawn on a logarithmic
            scale; none where both are 0. The default is what the paper prints, which no 8-bit image shows; the
            published code takes these numbers for variances: 0.0032–0.01.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(
        self,
        size: int = SIDE,
        crop: CropRange = (0.2, 1.0),
        aspect: CropRange = (3 / 4, 4 / 3),
        flip: bool = True,
        rotation_deg: float = 180.0,
        jitter: float = 0.4,
        jitter_probability: float = 0.8,
        blur_px: CropRange = (0.1, 2.0),
        blur_probability: float = 0.5,
        noise: CropRange = (1e-5, 1e-4),
    ) -> None:
        shares = {"jitter": jitter, "jitter_probability": jitter_probability, "blur_probability": blur_probability}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"data.views.{name} must lie in 0–1, got {share}")
        if size < 8:
            raise UserError(f"data.views.size must be at least 8 px, got {size}")
        for name, (low, high), most in (("crop", crop, 1.0), ("aspect", aspect, math.inf), ("blur_px", blur_px, 4.0)):
            if not 0 < low <= high <= most:
                raise UserError(
                    f"data.views.{name} must be two rising numbers above 0 and up to {most:g}, got {low, high}"
                )
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
        grey = batch["image"].float()
        tiles = list(zip(batch["index"].tolist(), batch["extent"].tolist(), strict=True))
        first, second = (
            self._view(grey, [self.draw(seed, epoch, index, view, extent) for index, extent in tiles])
            for view in range(2)
        )
        return TileBatch(**{**batch, "image": first, "second": second})

    def draw(self, seed: int, epoch: int, index: int, view: int, extent: list[int]) -> "ViewDraw":
        """Draw the parameters of one view.

        Args:
            seed: Random seed of the run.
            epoch: Current epoch.
            index: Index of the tile, by which augmentation is keyed.
            view: Number of the view, 0 or 1.
            extent: Height and width of the tile in px.
        """
        random = stream(seed, Purpose.AUGMENTATION, epoch, index, view)
        top, left, height, width = crop_box(random, (extent[0], extent[1]), self.crop, self.aspect)
        values = random.random(7)
        jitters = values[2] < self.jitter_probability
        brightness, contrast = 1 + self.jitter * (2 * random.random(2) - 1) * jitters
        return ViewDraw(
            centre=(top + height / 2 - 0.5, left + width / 2 - 0.5),
            box=(height, width),
            flip=1 - 2 * (self.flip and bool(values[0] < 0.5)),
            angle=math.radians((2 * values[1] - 1) * self.rotation_deg),
            brightness=float(brightness),
            contrast=float(contrast),
            brightness_first=bool(values[3] < 0.5),
            blur=_between(values[5], self.blur_px) if values[4] < self.blur_probability else 0.0,
            noise=_between_logs(values[6], self.noise) if self.noise[1] else 0.0,
            noise_seed=int(random.integers(2**62)),
        )

    def _view(self, grey: Tensor, draws: "list[ViewDraw]") -> Tensor:
        view = _jittered(self._cropped(grey, draws), draws)
        blurred = [place for place, draw in enumerate(draws) if draw.blur]
        if blurred:
            places = torch.tensor(blurred, device=grey.device)
            width = torch.tensor([[draws[place].blur] * 2 for place in blurred], device=grey.device)
            soft = kornia.filters.gaussian_blur2d(view[places], (_BLUR_PX, _BLUR_PX), width)
            view = view.index_copy(0, places, soft)
        if self.noise[1]:
            view = (view + 255 * _noise(draws, view)).clamp(0, 255)
        return view

    def _cropped(self, grey: Tensor, draws: "list[ViewDraw]") -> Tensor:
        # Views smaller than a tile are means of several samples a pixel, or else they would be aliased.
        fine = math.ceil(SIDE / self.size)
        matrices = torch.from_numpy(np.stack([draw.matrix(self.size * fine) for draw in draws]))
        warped: Tensor = kornia.geometry.transform.warp_affine(
            grey,
            matrices.to(grey.device, torch.float32),
            (self.size * fine, self.size * fine),
            mode="bilinear",
            padding_mode="reflection",
            align_corners=True,
        )
        return F.avg_pool2d(warped, fine) if fine > 1 else warped


@dataclass(frozen=True)
class ViewDraw:
    """Parameters of one view; ``centre`` and ``box`` are (y, x) in px of the tile."""

    centre: tuple[float, float]
    box: tuple[int, int]
    flip: int
    angle: float
    brightness: float
    contrast: float
    brightness_first: bool
    blur: float
    noise: float
    noise_seed: int

    def matrix(self, side: int) -> NDArray[np.float64]:
        """Affine map from pixels (x, y) of the tile to those of a view of ``side`` px, ``float64 (2, 3)``."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        scale = side / np.array([[self.box[1]], [self.box[0]]])
        turn = scale * np.array([[cos, -sin], [sin, cos]]) * np.array([self.flip, 1])
        middle = np.full(2, (side - 1) / 2)
        return np.concatenate([turn, (middle - turn @ np.array(self.centre[::-1]))[:, None]], axis=1)


def _between(share: float, ends: CropRange) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * share)


def _between_logs(share: float, ends: CropRange) -> float:
    return math.exp(_between(share, (math.log(ends[0]), math.log(ends[1]))))


def _column(values: "list[float]", like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1, 1)


def _jittered(grey: Tensor, draws: "list[ViewDraw]") -> Tensor:
    """Brightness and contrast as torchvision's ``ColorJitter`` changes them, each view in its own order."""
    brightness = _column([draw.brightness for draw in draws], grey)
    contrast = _column([draw.contrast for draw in draws], grey)
    first = torch.tensor([draw.brightness_first for draw in draws], device=grey.device).view(-1, 1, 1, 1)
    brightened = _contrasted(_brightened(grey, brightness), contrast)
    return torch.where(first, brightened, _brightened(_contrasted(grey, contrast), brightness))


def _brightened(grey: Tensor, factor: Tensor) -> Tensor:
    return (grey * factor).clamp(0, 255)


def _contrasted(grey: Tensor, factor: Tensor) -> Tensor:
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (grey - mean) * factor).clamp(0, 255)


def _noise(draws: "list[ViewDraw]", grey: Tensor) -> Tensor:
    """Gaussian noise of the shape of ``grey``, each view from its own generator on the device."""
    parts = []
    for draw in draws:
        generator = torch.Generator(grey.device).manual_seed(draw.noise_seed)
        parts.append(torch.randn(grey.shape[1:], generator=generator, device=grey.device) * draw.noise)
    return torch.stack(parts)
