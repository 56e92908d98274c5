"""Transforms of patches, volumes and views, and the base class that draws and applies them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import kornia.filters
import kornia.geometry.transform
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from data_modules.batch import IGNORE, Batch
from data_modules.errors import UserError
from data_modules.randomness import Purpose, stream

Range = tuple[float, float]
_TRIES = 10
"""Crops that are drawn before the largest central one is taken, as torchvision does."""


@dataclass(frozen=True)
class Draw:
    """Parameters of one patch; the defaults change nothing.

    The source is mirrored, scaled, turned and stretched about a point that is shown in the middle of the result.

    Attributes:
        flip: Signs along Y and X, -1 to mirror.
        scale: Factors along Y and X before the turn; above 1 enlarges.
        angle: Angle of the turn in radians; positive is clockwise, as Y points down.
        stretch: Factors along Y and X after the turn.
        shift: Point of the source that the middle of the result shows, Y X in px from the middle of the source; one
            for all sections ``(2,)`` or one each ``(Z, 2)``.
        sections: Sections of a volume in the order of the result, ``int64 (Z,)``; as they are by default.
        contrast: Factor of the grey values, or of their distance from their mean.
        brightness: Shift of the grey values as a share of the grey range.
        brightness_factor: Factor of the grey values, beside the contrast.
        brightness_first: Whether the brightness factor comes before the contrast.
        noise: Standard deviation of Gaussian noise, in grey levels unless the transform says otherwise.
        noise_seed: Random seed of the noise.
        blur: Standard deviation of a Gaussian blur in px of the result.
        section_contrast: Contrast of each section ``(Z,)``.
        section_brightness: Brightness of each section ``(Z,)``.
        missing: Whether each section is missing ``(Z,)``.
    """

    flip: tuple[int, int] = (1, 1)
    scale: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0
    stretch: tuple[float, float] = (1.0, 1.0)
    shift: ArrayLike = (0.0, 0.0)
    sections: NDArray[np.int64] | None = None
    contrast: float = 1.0
    brightness: float = 0.0
    brightness_factor: float = 1.0
    brightness_first: bool = True
    noise: float = 0.0
    noise_seed: int = 0
    blur: float = 0.0
    section_contrast: ArrayLike = 1.0
    section_brightness: ArrayLike = 0.0
    missing: ArrayLike = False

    def matrices(self, source: tuple[int, int], target: tuple[int, int], fine: int = 1) -> NDArray[np.float64]:
        """Affine maps from source to target pixels (x, y), ``float64 (1 or Z, 2, 3)``.

        Args:
            source: Height and width of the source in px.
            target: Height and width of the result in px.
            fine: Factor by which the result is larger, until it is averaged.
        """
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]]) * (np.array(self.flip) * np.array(self.scale))[::-1]
        turn *= fine * np.array(self.stretch)[::-1, None]
        centres = (np.array(source)[::-1] - 1) / 2 + np.atleast_2d(np.asarray(self.shift, np.float64))[:, ::-1]
        middle = (fine * np.array(target)[::-1] - 1) / 2
        turns = np.broadcast_to(turn, (len(centres), 2, 2))
        return np.concatenate([turns, (middle - centres @ turn.T)[:, :, None]], axis=2)


Draws = Sequence[Draw]
Change = Callable[[Tensor, Draws], Tensor]
"""Change of grey levels ``float32 (B, C, [Z,] Y, X)`` by the parameters of each patch."""


class KeyedAugment(ABC):
    """Augmentation of image and mask together, on their device, keyed by seed, epoch and patch alone.

    All geometry is one affine warp, so pixels are interpolated once: bilinear for the image, nearest neighbour for the
    mask. Pixels that come from outside the patch are mirrored in the image and ignored in the mask. Then the grey
    values change, in the order of ``changes``.

    Subclasses draw the parameters of a patch, and name what changes grey values.

    Attributes:
        axes: Number of axes of the patches.
        size: Side of the results in px; that of the patch if none. Patches that shrink are averaged.
        changes: Changes of grey values, in order.
    """

    axes: ClassVar[int] = 2
    size: int | None = None
    changes: tuple[Change, ...] = ()

    @abstractmethod
    def draw(self, random: np.random.Generator, sides: tuple[int, ...]) -> Draw:
        """Draw the parameters of one patch.

        Args:
            random: Random stream of the patch.
            sides: Sides of the patch in px.
        """

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Augment a batch.

        Args:
            batch: Image ``uint8 (B, C, [Z,] Y, X)`` and mask ``uint8 (B, [Z,] Y, X)`` of any classes, on any device.
            seed: Random seed of the run.
            epoch: Current epoch.

        Returns:
            The batch with image ``float32`` in grey levels 0–255 and mask ``uint8``.
        """
        sides = tuple(batch["image"].shape[2:])
        randoms = [stream(seed, Purpose.AUGMENTATION, epoch, index) for index in batch["index"].tolist()]
        return self.apply(batch, [self.draw(random, sides) for random in randoms])

    def apply(self, batch: Batch, draws: Draws) -> Batch:
        """Augment a batch with given parameters.

        Args:
            batch: Batch as for a call.
            draws: Parameters of each patch.

        Returns:
            Batch as from a call.
        """
        image = transform_image(batch["image"], draws, self.size, self.changes)
        return Batch(**{**batch, "image": image, "mask": warp_mask(batch["mask"], draws, self.size)})


def transform_image(image: Tensor, draws: Draws, size: int | None = None, changes: Sequence[Change] = ()) -> Tensor:
    """Warp images and change their grey values.

    Args:
        image: Grey levels ``(B, C, [Z,] Y, X)``.
        draws: Parameters of each.
        size: Side of the results in px; as they are by default.
        changes: Changes of the warped grey levels.

    Returns:
        ``float32 (B, C, [Z,] Y, X)``, clipped to 0–255.
    """
    grey = warp_image(image, draws, size)
    for change in changes:
        grey = change(grey, draws)
    return grey.clamp(0, 255)


def warp_image(image: Tensor, draws: Draws, size: int | None = None) -> Tensor:
    """Warp images ``(B, C, [Z,] Y, X)``: bilinear, averaged where they shrink, mirrored where they end."""
    target = image.shape[-2:] if size is None else (size, size)
    # Results smaller than a patch are means of several samples a pixel, or else they would be aliased.
    fine = max(math.ceil(side / end) for side, end in zip(image.shape[-2:], target, strict=True))
    warped = _warp(_ordered(image, draws).float(), draws, target, fine, "bilinear", "reflection")
    warped = F.avg_pool2d(warped, fine) if fine > 1 else warped
    if image.ndim == 4:
        return warped
    return warped.view(len(image), -1, *warped.shape[1:]).transpose(1, 2).contiguous()


def warp_mask(mask: Tensor, draws: Draws, size: int | None = None) -> Tensor:
    """Warp masks ``uint8 (B, [Z,] Y, X)`` of any classes: the nearest pixel, ignored where they end."""
    target = mask.shape[-2:] if size is None else (size, size)
    # The values travel shifted by one, so that 0 can only mean "from outside".
    shifted = _warp(_ordered(mask[:, None], draws).float() + 1, draws, target, 1, "nearest", "zeros")[:, 0].round()
    warped = torch.where(shifted == 0, torch.full_like(shifted, IGNORE), shifted - 1).to(torch.uint8)
    return warped.view(*mask.shape[:-2], *target)


def _ordered(pixels: Tensor, draws: Draws) -> Tensor:
    """Sections as images of their own, ``(B · Z, C, Y, X)``, in the order of the result."""
    if pixels.ndim == 4:
        return pixels
    depth = pixels.shape[2]
    order = [np.arange(depth) if draw.sections is None else draw.sections for draw in draws]
    places = torch.from_numpy(np.stack(order)).to(pixels.device)
    patches = torch.arange(len(draws), device=pixels.device)[:, None]
    return pixels.transpose(1, 2)[patches, places].flatten(0, 1)


def _warp(pixels: Tensor, draws: Draws, target: Sequence[int], fine: int, mode: str, padding: str) -> Tensor:
    source, sides = (pixels.shape[-2], pixels.shape[-1]), (target[0], target[1])
    depth = len(pixels) // len(draws)
    maps = [np.broadcast_to(draw.matrices(source, sides, fine), (depth, 2, 3)) for draw in draws]
    matrices = torch.from_numpy(np.concatenate(maps)).to(pixels.device, torch.float32)
    warped: Tensor = kornia.geometry.transform.warp_affine(
        pixels, matrices, (sides[0] * fine, sides[1] * fine), mode=mode, padding_mode=padding, align_corners=True
    )
    return warped


def each(name: str, draws: Draws, grey: Tensor) -> Tensor:
    """Collect a parameter of each patch or section, shaped to spread over grey levels ``(B, C, [Z,] Y, X)``."""
    values = torch.from_numpy(np.array(np.broadcast_arrays(*[getattr(draw, name) for draw in draws]), np.float32))
    return values.to(grey.device).view(len(draws), 1, -1, *[1] * (grey.ndim - 3))


def scale_about_mean(grey: Tensor, draws: Draws) -> Tensor:
    """Change contrast about each patch's own mean, then brightness; not clipped."""
    mean = grey.mean(dim=tuple(range(1, grey.ndim)), keepdim=True)
    return mean + (grey - mean) * each("contrast", draws, grey) + 255 * each("brightness", draws, grey)


def scale_about_black(grey: Tensor, draws: Draws) -> Tensor:
    """Change contrast about black, then brightness; clipped once."""
    return (grey * each("contrast", draws, grey) + 255 * each("brightness", draws, grey)).clamp(0, 255)


def jitter_grey(grey: Tensor, draws: Draws) -> Tensor:
    """Change brightness and contrast as torchvision's ``ColorJitter`` does, each patch in its own order."""
    factor, contrast = each("brightness_factor", draws, grey), each("contrast", draws, grey)

    def about_mean(pixels: Tensor) -> Tensor:
        mean = pixels.mean(dim=tuple(range(1, pixels.ndim)), keepdim=True)
        return (mean + (pixels - mean) * contrast).clamp(0, 255)

    brightened_first = about_mean((grey * factor).clamp(0, 255))
    brightened_last = (about_mean(grey) * factor).clamp(0, 255)
    return torch.where(each("brightness_first", draws, grey) > 0, brightened_first, brightened_last)


def scale_sections(grey: Tensor, draws: Draws) -> Tensor:
    """Change contrast about each section's own mean, then brightness, of volumes ``(B, C, Z, Y, X)``."""
    mean = grey.mean(dim=(1, 3, 4), keepdim=True)
    contrast, brightness = each("section_contrast", draws, grey), each("section_brightness", draws, grey)
    return mean + (grey - mean) * contrast + 255 * brightness


def blank_sections(grey: Tensor, draws: Draws, level: float | None) -> Tensor:
    """Fill the missing sections of volumes ``(B, C, Z, Y, X)`` with a grey level, or with the mean of the patch."""
    mean = grey.mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.where(each("missing", draws, grey) > 0, mean if level is None else torch.full_like(mean, level), grey)


def add_noise(grey: Tensor, draws: Draws, unit: float = 1.0) -> Tensor:
    """Add Gaussian noise, each patch's from its own generator on the device; clipped.

    Args:
        grey: Grey levels ``float32 (B, C, [Z,] Y, X)``.
        draws: Parameters of each patch.
        unit: Grey levels in one unit of the drawn standard deviations.
    """
    if not any(draw.noise for draw in draws):
        return grey
    parts = []
    for draw in draws:
        generator = torch.Generator(grey.device).manual_seed(draw.noise_seed)
        parts.append(torch.randn(grey.shape[1:], generator=generator, device=grey.device) * draw.noise * unit)
    return (grey + torch.stack(parts)).clamp(0, 255)


def blur(grey: Tensor, draws: Draws, widest: float) -> Tensor:
    """Blur 2D patches by Gaussians of their own standard deviations, mirrored at the edges.

    Args:
        grey: Grey levels ``float32 (B, C, Y, X)``.
        draws: Parameters of each patch; those of width 0 stay as they are.
        widest: Largest standard deviation in px, at which the kernel ends after three of them. It is the same for all
            patches, so that a patch is the same in any batch.
    """
    chosen = [place for place, draw in enumerate(draws) if draw.blur > 0]
    if not chosen:
        return grey
    places = torch.tensor(chosen, device=grey.device)
    radius = min(math.ceil(3 * widest), min(grey.shape[-2:]) - 1)
    sigma = torch.tensor([[draws[place].blur] * 2 for place in chosen], dtype=torch.float32, device=grey.device)
    soft = kornia.filters.gaussian_blur2d(grey[places], (2 * radius + 1, 2 * radius + 1), sigma.clamp(min=1e-3))
    return grey.index_copy(0, places, soft)


def crop_box(
    random: np.random.Generator, sides: tuple[int, int], share: Range, aspect: Range
) -> tuple[int, int, int, int]:
    """Draw a crop as torchvision's and albumentations' ``RandomResizedCrop`` do.

    Args:
        random: Random stream.
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


def show_box(
    box: tuple[int, int, int, int], source: tuple[int, int], target: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Compute the factors and the shift of a :class:`Draw` that shows a box of the source as the whole result.

    Args:
        box: Top, left, height and width in px.
        source: Height and width of the source in px.
        target: Height and width of the result in px.
    """
    top, left, down, across = box
    factors = (target[0] / down, target[1] / across)
    return factors, (top + (down - source[0]) / 2, left + (across - source[1]) / 2)


def between(share: float, ends: Range) -> float:
    """Interpolate between two ends."""
    return float(ends[0] + (ends[1] - ends[0]) * share)


def check_shares(where: str, shares: Mapping[str, float]) -> None:
    """Refuse values outside 0–1.

    Raises:
        UserError: for the first of them, by the name of the option.
    """
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"{where}.{name} must lie in 0–1, got {share}")


def check_ranges(where: str, ranges: Mapping[str, tuple[Range, float]]) -> None:
    """Refuse ranges that do not rise from above 0 to at most a limit; see :func:`check_shares`."""
    for name, ((low, high), most) in ranges.items():
        if not 0 < low <= high <= most:
            raise UserError(f"{where}.{name} must be two rising numbers above 0 and up to {most:g}, got {low, high}")
