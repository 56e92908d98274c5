"""Downsampling a mosaic and its masks to a fixed size, as for Track 2 of U-RISC."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.errors import UserError
from data_modules.images.image import Pixels

Filter = Literal["box", "lanczos", "bicubic", "nearest"]
_FILTERS = {
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_ROWS = 512


@dataclass(frozen=True)
class Shrink:
    """From one size to a smaller one.

    Attributes:
        original: Height and width in px before.
        target: Height and width in px after.
        filter: Filter for images; ``box`` is the mean over an area.
        label_share: A target pixel of a mask is foreground if at least this share of its area is, above 0 and up to 1.

    Raises:
        UserError: if the target is larger or the share outside its range.
    """

    original: tuple[int, int]
    target: tuple[int, int]
    filter: Filter = "box"
    label_share: float = 0.25

    def __post_init__(self) -> None:
        if self.target[0] > self.original[0] or self.target[1] > self.original[1]:
            raise UserError(f"{self.original} px cannot be downsampled to {self.target} px: choose a smaller --size")
        if not 0 < self.label_share <= 1:
            raise UserError(f"--label-share {self.label_share}: give a share of the area, above 0 and up to 1")

    @property
    def record(self) -> dict[str, Any]:
        """JSON-ready sizes before and after, for the provenance."""
        return {"from": list(self.original), "to": list(self.target)}

    def image(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Downsample ``uint8 (Y, X)`` of the original size with the filter."""
        y, x = self.target
        return np.asarray(Image.fromarray(pixels).resize((x, y), _FILTERS[self.filter]))

    def mask(self, pixels: Pixels) -> Pixels:
        """Downsample a mask ``uint8 (Y, X)`` of 0 and 1 of the original size by the share of the area."""
        columns = _edges(self.original[1], self.target[1])
        rows = _edges(self.original[0], self.target[0])
        narrow = [
            np.add.reduceat(pixels[start : start + _ROWS] == 1, columns, axis=1, dtype=np.uint32)
            for start in range(0, len(pixels), _ROWS)
        ]
        foreground = np.add.reduceat(np.concatenate(narrow), rows, axis=0)
        area = np.outer(np.diff(rows, append=self.original[0]), np.diff(columns, append=self.original[1]))
        return (foreground >= self.label_share * area).astype(np.uint8)


def _edges(original: int, target: int) -> list[int]:
    """First source pixel of every target pixel: a source pixel belongs where its centre lies."""
    return [math.ceil(index * original / target - 0.5) for index in range(target)]
