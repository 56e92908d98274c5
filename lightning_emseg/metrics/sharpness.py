"""Image sharpness criteria of the U-RISC paper (Shi et al. 2021, eqs. 3–6).

In the paper's f(x, y), x runs along the last axis of a ``(Y, X)`` image and y along the first; M is the width and N the
height in px. Values are in grey levels squared.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.integer[Any] | np.floating[Any]]
_PIECE = 2**17
"""Pixels that are worked on at once, so that their differences stay in the processor's cache."""


@dataclass(frozen=True)
class Sharpness:
    """The four criteria of one image, as sums or per pixel.

    Attributes:
        brenner: Σ |f(x+2, y) − f(x, y)|².
        smd2: Σ |f(x, y) − f(x+1, y)| · |f(x, y) − f(x, y+1)|.
        variance: Σ |f(x, y) − μ|², μ the mean of the image.
        vollath: Σ f(x, y) · f(x+1, y) − M · N · μ².
    """

    brenner: float
    smd2: float
    variance: float
    vollath: float


class SharpnessSums:
    """Criteria of an image that comes in bands of rows, from top to bottom, in one pass.

    However the bands are cut, integers (up to 16 bits) give the exact sums and floats the same to rounding, because
    everything is kept as whole sums of grey values less the first pixel's; memory is that of one band.
    """

    def __init__(self) -> None:
        self._height = self._width = 0
        self._pivot: Any = 0
        self._last: Grey = np.empty((0, 0))
        # Whole numbers, to which only the pixels may add fractions: Python's integers are exact at any size.
        self._sum: float = 0
        self._squares: float = 0
        self._left: float = 0
        self._right: float = 0
        self._products: float = 0
        self._brenner: float = 0
        self._smd2: float = 0

    def update(self, rows: Grey) -> None:
        """Add the next rows.

        Args:
            rows: ``(rows, X)``, integers of up to 16 bits or floats; all bands of one data type.

        Raises:
            ValueError: if the rows are not two-dimensional or of another width than those before.
        """
        if rows.ndim != 2 or self._width not in (0, rows.shape[1]) or not rows.shape[1]:
            raise ValueError(f"rows of {rows.shape} px cannot follow rows of {self._width} px")
        self._width = rows.shape[1]
        step = max(1, _PIECE // self._width)
        for start in range(0, len(rows), step):
            self._add(_wide(rows[start : start + step]))

    def _add(self, rows: Grey) -> None:
        if not self._height:
            self._pivot = rows[0, 0].item()
        # A constant changes no difference, but without it the large sums of squares would cancel in floats.
        rows = rows - self._pivot
        self._sum += rows.sum().item()
        self._squares += _dot(rows, rows)
        self._left += rows[:, 0].sum().item()
        self._right += rows[:, -1].sum().item()
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
    def mean(self) -> float:
        """Mean grey value μ.

        Raises:
            ValueError: if there were no rows.
        """
        return float(self._pivot + self._sum / self._pixels)

    @property
    def total(self) -> Sharpness:
        """Sums as the paper defines them; they grow with the number of pixels, whatever the content.

        A constant image of value c has −N c² as Vollath, because M · N · μ² is taken from N · (M − 1) products.

        Raises:
            ValueError: if there were no rows.
        """
        n, c = self._pixels, self._pivot
        # With g = f − c: Σ f f' = Σ g g' + c Σ (g + g') + c² N (M − 1), and Σ (g + g') is twice Σ g less the borders.
        lagged = self._products - c * (self._left + self._right) - c * c * self._height
        squared = self._sum * self._sum
        return Sharpness(
            float(self._brenner),
            float(self._smd2),
            (n * self._squares - squared) / n,
            (n * lagged - squared) / n,
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
        height, width, total = self._height, self._width, self.total
        vollath = _share(total.vollath, height * (width - 1)) + _share(self.mean**2, width - 1)
        return Sharpness(
            _share(total.brenner, height * (width - 2)),
            _share(total.smd2, (height - 1) * (width - 1)),
            _share(total.variance, self._pixels),
            vollath,
        )

    @property
    def _pixels(self) -> int:
        if not self._height:
            raise ValueError("an image without rows has no definition criteria")
        return self._height * self._width


def sharpness_sums(image: Grey) -> SharpnessSums:
    """All four criteria of a whole image, grey ``(Y, X)``, integers of up to 16 bits or floats.

    Raises:
        ValueError: if the image is not two-dimensional or has no pixels.
    """
    sums = SharpnessSums()
    sums.update(image)
    return sums


def brenner(image: Grey) -> float:
    """Σ |f(x+2, y) − f(x, y)|² (eq. 3) of a grey image ``(Y, X)``; per pixel: :func:`sharpness_sums`.

    >>> brenner(np.array([[0, 9, 3, 9]]))
    9.0
    """
    return sharpness_sums(image).total.brenner


def smd2(image: Grey) -> float:
    """Σ |f(x, y) − f(x+1, y)| · |f(x, y) − f(x, y+1)| (eq. 4) of ``(Y, X)``; per pixel: :func:`sharpness_sums`.

    >>> smd2(np.array([[5, 7], [2, 100]]))
    6.0
    """
    return sharpness_sums(image).total.smd2


def variance(image: Grey) -> float:
    """Σ |f(x, y) − μ|² (eq. 5) of a grey image ``(Y, X)``; per pixel: :func:`sharpness_sums`.

    >>> variance(np.array([[1, 3]]))
    2.0
    """
    return sharpness_sums(image).total.variance


def vollath(image: Grey) -> float:
    """Σ f(x, y) · f(x+1, y) − M · N · μ² (eq. 6) of ``(Y, X)``, M × N its size; per pixel: :func:`sharpness_sums`.

    >>> vollath(np.array([[1, 3]]))
    -5.0
    """
    return sharpness_sums(image).total.vollath


def _wide(rows: Grey) -> Grey:
    return rows.astype(np.int64 if np.issubdtype(rows.dtype, np.integer) else np.float64)


def _dot(a: Grey, b: Grey) -> float:
    product: float = (a * b).sum().item()
    return product


def _share(total: float, terms: int) -> float:
    return total / terms if terms > 0 else float("nan")
