"""One mosaic as training and evaluation see it: grey image, binary mask, possibly a window of something larger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store.reader import ArrayRef, read
from data_modules.store.samples import Sample

_FEW = 8
"""Values up to which comparing one by one is faster than looking them up."""


@dataclass(frozen=True)
class MosaicView:
    """A sample, its mask and the window of it that is meant; plain data that workers receive by pickle.

    Attributes:
        key: ``<split>/<sample>``, with the window where it is not the whole sample.
        image: Grey image.
        mask: Label, or ``None`` where there is none.
        foreground: Label values that count as foreground; empty for any value but 0 and ignore.
        pixel_size_nm: One value an axis.
        start: First pixel of the window in the sample.
        shape: Size of the window in px.
    """

    key: str
    image: ArrayRef
    mask: ArrayRef | None
    foreground: tuple[int, ...]
    pixel_size_nm: tuple[float, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, sample: Sample, label: str | None, foreground: Sequence[str | int] = ()) -> "MosaicView":
        """The whole of ``sample``.

        Args:
            sample: From a store.
            label: Name of the label to learn or score, or ``None``.
            foreground: Class names or values that count as foreground, for labels of kind ``classes``.

        Raises:
            UserError: if the label does not exist, has an unknown class, or needs a foreground to become binary.
        """
        mask = None if label is None else sample.label(label)
        values = () if mask is None else _foreground_values(sample, str(label), mask, foreground)
        shape = sample.image.shape
        return cls(sample.key, sample.image, mask, values, sample.pixel_size_nm, (0,) * len(shape), shape)

    def window(self, start: Sequence[int], stop: Sequence[int]) -> "MosaicView":
        """The part from ``start`` to ``stop`` (exclusive), in px of this mosaic, as a mosaic of its own."""
        where = ", ".join(f"{first}:{last}" for first, last in zip(start, stop, strict=True))
        return replace(
            self,
            key=f"{self.key}[{where}]",
            start=tuple(offset + first for offset, first in zip(self.start, start, strict=True)),
            shape=tuple(last - first for first, last in zip(start, stop, strict=True)),
        )

    def read_image(self, origin: Sequence[int], size: Sequence[int]) -> NDArray[np.uint8]:
        """Grey levels of a patch; what lies outside the window is mirrored from inside."""
        pixels: NDArray[np.uint8] = self._read(self.image, origin, size, None)
        return pixels

    def read_mask(self, origin: Sequence[int], size: Sequence[int]) -> NDArray[np.uint8]:
        """Mask of a patch: 0 background, 1 foreground, 255 for ignored pixels and those outside the window.

        Raises:
            UserError: if the mosaic has no label.
        """
        if self.mask is None or self.mask.info is None:
            raise UserError(f"{self.key} has no label to read")
        info = self.mask.info
        values = self._read(self.mask, origin, size, info.ignore or 0)
        if info.kind == "binary" and self.foreground == (1,):
            mask: NDArray[np.uint8] = values
        else:
            chosen = _is_one_of(values, self.foreground) if self.foreground else values != 0
            mask = chosen.view(np.uint8)
            if info.ignore is not None:
                # 1 becomes 255, IGNORE; a boolean index takes ten times as long.
                mask |= np.negative((values == info.ignore).view(np.uint8))
        if info.ignore is None:
            self._ignore_outside(mask, origin)
        return mask

    def _read(self, array: ArrayRef, origin: Sequence[int], size: Sequence[int], fill: int | None) -> NDArray[Any]:
        inside = [
            slice(max(0, first), min(side, first + extent))
            for side, first, extent in zip(self.shape, origin, size, strict=True)
        ]
        region = [slice(s + part.start, s + part.stop) for s, part in zip(self.start, inside, strict=True)]
        pixels = read(array, region)
        pad = [
            (part.start - first, first + extent - part.stop)
            for part, first, extent in zip(inside, origin, size, strict=True)
        ]
        if not any(before or after for before, after in pad):
            return pixels
        if fill is None:
            # Symmetric padding mirrors as often as needed, for mosaics far smaller than a tile.
            return np.pad(pixels, pad, mode="symmetric")
        return np.pad(pixels, pad, constant_values=fill)

    def _ignore_outside(self, mask: NDArray[np.uint8], origin: Sequence[int]) -> None:
        for axis, (first, side) in enumerate(zip(origin, self.shape, strict=True)):
            rows = np.arange(first, first + mask.shape[axis])
            outside = [slice(None)] * mask.ndim
            for row in np.flatnonzero((rows < 0) | (rows >= side)):
                outside[axis] = slice(int(row), int(row) + 1)
                mask[tuple(outside)] = IGNORE


def _is_one_of(values: NDArray[Any], chosen: Sequence[int]) -> NDArray[np.bool_]:
    if len(chosen) > _FEW:
        return np.isin(values, np.asarray(chosen, values.dtype))
    found: NDArray[np.bool_] = values == chosen[0]
    for value in chosen[1:]:
        found |= values == value
    return found


def _foreground_values(sample: Sample, label: str, mask: ArrayRef, names: Sequence[str | int]) -> tuple[int, ...]:
    info = mask.info
    assert info is not None
    if info.kind == "binary":
        if names and list(names) != [1]:
            raise UserError(f"label {label!r} of {sample.key} is binary: leave out data.foreground ({list(names)})")
        return (1,)
    if info.kind == "instances":
        return tuple(int(name) for name in names)
    if not names:
        known = ", ".join(info.classes.values())
        raise UserError(
            f"label {label!r} of {sample.key} has classes ({known}): say which are foreground, "
            "e.g. --data.foreground '[mitochondrion]'"
        )
    values = {name: value for value, name in info.classes.items()} | {value: value for value in info.classes}
    unknown = [name for name in names if name not in values]
    if unknown:
        raise UserError(f"label {label!r} of {sample.key} has no class {unknown}; it has {dict(info.classes)}")
    return tuple(values[name] for name in names)
