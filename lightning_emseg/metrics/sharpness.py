"""Image sharpness criteria of the U-RISC paper (Shi et al. 2021, eqs. 3–6), of images and of whole mosaics.

In the paper's f(x, y), x runs along the last axis of a ``(Y, X)`` image and y along the first; M is the width and N the
height in px. Values are in grey levels squared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data_modules.store import MosaicView, shard_rows

Grey = NDArray[np.integer[Any] | np.floating[Any]]
Pixels = NDArray[np.uint8]
Filter = Literal["box", "nearest"]
_RESAMPLING = {"box": Image.Resampling.BOX, "nearest": Image.Resampling.NEAREST}
_PIECE = 2**17
"""Pixels that are worked on at once, so that their differences stay in the processor's cache."""


class Sharpness(NamedTuple):
    """Four criteria of one image, as sums or per pixel.

    Attributes:
        brenner: Σ |f(x+2, y) − f(x, y)|² (eq. 3).
        smd2: Σ |f(x, y) − f(x+1, y)| · |f(x, y) − f(x, y+1)| (eq. 4).
        variance: Σ |f(x, y) − μ|², μ the mean of the image (eq. 5).
        vollath: Σ f(x, y) · f(x+1, y) − M · N · μ² (eq. 6).
    """

    brenner: float
    smd2: float
    variance: float
    vollath: float


class SharpnessSums:
    """Criteria of an image that comes in bands of rows, from top to bottom, in one pass.

    Sums of integers are exact and do not depend on the bands; those of floats do so to rounding. Memory is that of
    one band.
    """

    def __init__(self) -> None:
        self._height = self._width = 0
        self._last: Grey = np.empty((0, 0))
        # Integers of any length: a constant image has no variance, however many pixels it has.
        self._sum: float = 0
        self._squares: float = 0
        self._products: float = 0
        self._brenner: float = 0
        self._smd2: float = 0

    def update(self, rows: Grey) -> None:
        """Add the next rows.

        Args:
            rows: ``(rows, X)``, integers or floats; all bands of one data type.

        Raises:
            ValueError: if the rows are not two-dimensional or of another width than those before.
        """
        if rows.ndim != 2 or self._width not in (0, rows.shape[1]) or not rows.shape[1]:
            raise ValueError(f"rows of {rows.shape} px cannot follow rows of {self._width} px")
        self._width = rows.shape[1]
        step = max(1, _PIECE // self._width)
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            self._add(piece.astype(np.int64 if np.issubdtype(piece.dtype, np.integer) else np.float64))

    def _add(self, rows: Grey) -> None:
        self._sum += rows.sum().item()
        self._squares += _dot(rows, rows)
        self._products += _dot(rows[:, :-1], rows[:, 1:])
        across = rows[:, 2:] - rows[:, :-2]
        self._brenner += _dot(across, across)
        joined = np.concatenate([self._last, rows]) if self._height else rows
        here = joined[:-1, :-1]
        self._smd2 += _dot(np.abs(here - joined[:-1, 1:]), np.abs(here - joined[1:, :-1]))
        self._last = rows[-1:]
        self._height += len(rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px of what came so far."""
        return self._height, self._width

    @property
    def total(self) -> Sharpness:
        """Sums as the paper defines them; they grow with the number of pixels, whatever the content.

        A constant image of value c has −N c² as Vollath, because M · N · μ² is taken from N · (M − 1) products.

        Raises:
            ValueError: if there were no rows.
        """
        if not self._height:
            raise ValueError("an image without rows has no sharpness")
        pixels = self._height * self._width
        return Sharpness(
            float(self._brenner),
            float(self._smd2),
            (pixels * self._squares - self._sum**2) / pixels,
            (pixels * self._products - self._sum**2) / pixels,
        )

    @property
    def per_pixel(self) -> Sharpness:
        """Every sum divided by the number of its terms, to compare images of different sizes.

        These are N · (M − 2) for Brenner, (N − 1) · (M − 1) for SMD2 and N · M for Variance. In Vollath the N · (M − 1)
        products and the M · N times μ² are each divided by their own number: what remains is the covariance of
        neighbours along x. (The whole divided by N · (M − 1) would be smaller by μ² / (M − 1), which tells the width of
        the image and not its content.)

        NaN where a sum has no terms.

        Raises:
            ValueError: if there were no rows.
        """
        (height, width), total = self.shape, self.total
        mean = self._sum / (height * width)
        return Sharpness(
            _share(total.brenner, height * (width - 2)),
            _share(total.smd2, (height - 1) * (width - 1)),
            _share(total.variance, height * width),
            _share(self._products, height * (width - 1)) - mean**2,
        )


def sharpness_sums(image: Grey) -> SharpnessSums:
    """Compute all four criteria of a whole image, grey ``(Y, X)``, integers or floats.

    Raises:
        ValueError: if the image is not two-dimensional or has no pixels.

    >>> sharpness_sums(np.array([[5, 7], [2, 100]])).total.smd2
    6.0
    """
    sums = SharpnessSums()
    sums.update(image)
    return sums


def _dot(a: Grey, b: Grey) -> float:
    product: float = (a * b).sum().item()
    return product


def _share(total: float, terms: int) -> float:
    return total / terms if terms > 0 else math.nan


@dataclass(frozen=True)
class SharpnessLevel:
    """Sharpness of one mosaic at one resolution.

    Attributes:
        mosaic: ``<split>/<sample>``.
        name: ``original``, ``1/<factor>`` or ``<size> px``.
        shape: Height and width in px.
        pixel_size_nm: Size of a pixel along Y and X in nm.
        total: Criteria as sums.
        per_pixel: Criteria as means.
        ratio: Criteria per pixel over those of the original; NaN where these are 0.
    """

    mosaic: str
    name: str
    shape: tuple[int, int]
    pixel_size_nm: tuple[float, float]
    total: Sharpness
    per_pixel: Sharpness
    ratio: Sharpness


def measure_levels(
    mosaic: MosaicView, downsample: Sequence[int] = (2, 4), size: int | None = None, filter: Filter = "box"
) -> list[SharpnessLevel]:
    """Measure one 2D mosaic at its own resolution and at lower ones; it is read once, band by band.

    Args:
        mosaic: Mosaic of a store.
        downsample: Factors, at least 2. Rows and columns beyond the last whole block are left out.
        size: Length of the longer side in px of a further level, for which the whole mosaic is held in memory.
        filter: How smaller levels are made: ``box`` is the mean over a block, rounded to 8 bit; ``nearest`` takes the
            first pixel of every block, and the middle one for ``size``.

    Returns:
        The original, a level for each factor, and that of ``size``.
    """
    height, width = mosaic.shape
    sums = {factor: SharpnessSums() for factor in (1, *downsample)}
    # Bands hold whole blocks of every factor.
    blocks = math.lcm(*downsample)
    step = blocks * max(1, shard_rows(mosaic.shape) // blocks)
    for start in tqdm(range(0, height, step), desc=mosaic.key, leave=False, disable=None):
        rows = mosaic.read_image((start, 0), (min(step, height - start), width))
        for factor, each in sums.items():
            each.update(rows if factor == 1 else shrink_blocks(rows, factor, filter))
    found: list[tuple[str, SharpnessSums, tuple[float, float]]] = [
        ("original" if factor == 1 else f"1/{factor}", each, (factor, factor)) for factor, each in sums.items()
    ]
    if size is not None:
        shape = fit((height, width), size)
        whole = Image.fromarray(mosaic.read_image((0, 0), (height, width)))
        shrunk = np.asarray(whole.resize(shape[::-1], _RESAMPLING[filter]))
        found.append((f"{size} px", sharpness_sums(shrunk), (height / shape[0], width / shape[1])))
    (y, x), original = mosaic.pixel_size_nm, sums[1].per_pixel
    levels = []
    for name, each, scale in found:
        pairs = zip(each.per_pixel, original, strict=True)
        ratio = Sharpness(*(after / before if before else math.nan for after, before in pairs))
        pixel_size_nm = (y * scale[0], x * scale[1])
        levels.append(SharpnessLevel(mosaic.key, name, each.shape, pixel_size_nm, each.total, each.per_pixel, ratio))
    return levels


def shrink_blocks(rows: Pixels, factor: int, filter: Filter) -> Pixels:
    """Downsample by a whole factor; rows and columns beyond the last whole block are left out."""
    height, width = (side // factor * factor for side in rows.shape)
    rows = rows[:height, :width]
    if filter == "nearest":
        return rows[::factor, ::factor]
    # Along Y first: these sums run over neighbouring memory and leave little to do along X.
    narrow = rows.reshape(height // factor, factor, width).sum(axis=1, dtype=np.uint32)
    total = narrow.reshape(height // factor, width // factor, factor).sum(axis=2)
    return np.asarray((total + factor**2 // 2) // factor**2, np.uint8)


def fit(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Compute the height and width in px of an image whose longer side is to have ``size`` px."""
    y, x = (max(1, round(side * size / max(shape))) for side in shape)
    return y, x
