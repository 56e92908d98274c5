"""Mosaics as training and evaluation see them: grey image, mask of a foreground or of classes, possibly a window."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store.reader import ArrayRef, read
from data_modules.store.samples import Sample

_FEW = 8
"""Values up to which comparing one by one is faster than looking them up."""
_UNKNOWN = 254
"""In tables of classes, of which there are fewer."""


def foreground_values(key: str, label: str, mask: ArrayRef, names: Sequence[str | int]) -> tuple[int, ...]:
    """Values of a label that count as foreground; none of instances stands for all of them.

    Args:
        key: Of the sample, for messages.
        label: Name of the label.
        mask: The label.
        names: Classes by name or value, or ids of instances.

    Raises:
        UserError: if a class is unknown, or a label with classes has no foreground.
    """
    info = mask.info
    assert info is not None
    if info.kind == "binary":
        if names and list(names) != [1]:
            raise UserError(f"label {label!r} of {key} is binary: leave out data.foreground ({list(names)})")
        return (1,)
    if info.kind == "instances":
        return tuple(int(name) for name in names)
    if not names:
        known = ", ".join(info.classes.values())
        raise UserError(
            f"label {label!r} of {key} has classes ({known}): say which are foreground, "
            "e.g. --data.foreground '[mitochondrion]'"
        )
    values = {name: value for value, name in info.classes.items()} | {value: value for value in info.classes}
    unknown = [name for name in names if name not in values]
    if unknown:
        raise UserError(f"label {label!r} of {key} has no class {unknown}; it has {dict(info.classes)}")
    return tuple(values[name] for name in names)


def class_values(key: str, label: str, mask: ArrayRef, names: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Value and name of each class, in the order of ``names``.

    Args:
        key: Of the sample, for messages.
        label: Name of the label.
        mask: The label.
        names: Of all its classes.

    Raises:
        UserError: if the label is not of kind ``classes``, or has other classes.
    """
    info = mask.info
    assert info is not None
    if info.kind != "classes":
        raise UserError(
            f"label {label!r} of {key} is {info.kind}, so that it has no classes: leave out data.classes, or convert "
            "it with --kind classes"
        )
    values = {name: value for value, name in info.classes.items()}
    unknown, missing = [name for name in names if name not in values], [name for name in values if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        raise UserError(
            f"label {label!r} of {key} has the classes {list(values)}, but data.classes names {list(names)}: name all "
            "of them once, the background first"
        )
    return tuple((values[name], name) for name in names)


def class_positions(values: NDArray[np.uint8], classes: tuple[tuple[int, str], ...], what: str) -> NDArray[np.uint8]:
    """Position of each pixel's class; 255 stays.

    Args:
        values: Of a label.
        classes: Value and name of each class.
        what: The label, for messages.

    Raises:
        UserError: if a value is no class.
    """
    found: NDArray[np.uint8] = _table(classes)[values]
    if (found == _UNKNOWN).any():
        unknown = sorted(set(values[found == _UNKNOWN].tolist()))
        raise UserError(f"{what} has the values {unknown}, which are no class of it: convert it again with all classes")
    return found


@lru_cache
def _table(classes: tuple[tuple[int, str], ...]) -> NDArray[np.uint8]:
    table = np.full(256, _UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[[value for value, _ in classes]] = np.arange(len(classes), dtype=np.uint8)
    table.flags.writeable = False
    return table


def is_one_of(values: NDArray[Any], chosen: Sequence[int]) -> NDArray[np.bool_]:
    """Where values, of any shape and integer type, are among the chosen ones."""
    if len(chosen) > _FEW:
        return np.isin(values, np.asarray(chosen, values.dtype))
    found: NDArray[np.bool_] = values == chosen[0]
    for value in chosen[1:]:
        found |= values == value
    return found


@dataclass(frozen=True)
class MosaicView:
    """A sample, its mask and the window of it that is meant; plain data that workers receive by pickle.

    Attributes:
        key: ``<split>/<sample>``, with the window where it is not the whole sample.
        image: Grey image.
        mask: Label, or ``None`` where there is none.
        foreground: Label values that count as foreground; empty for any value but 0 and ignore.
        classes: Label value and name of each class, the background first; empty where masks are of a foreground.
        pixel_size_nm: One value an axis.
        start: First pixel of the window in the sample, by the axes of this view.
        shape: Size of the window in px.
        axes: Axis of the sample that each axis of this view is, ``None`` for one that it has not; empty where they are
            the sample's own.
    """

    key: str
    image: ArrayRef
    mask: ArrayRef | None
    foreground: tuple[int, ...]
    pixel_size_nm: tuple[float, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]
    classes: tuple[tuple[int, str], ...] = ()
    axes: tuple[int | None, ...] = ()

    @classmethod
    def of(
        cls,
        sample: Sample,
        label: str | None,
        foreground: Sequence[str | int] = (),
        classes: Sequence[str] = (),
    ) -> "MosaicView":
        """The whole of ``sample``.

        Args:
            sample: From a store.
            label: Name of the label to learn or score, or ``None``.
            foreground: Class names or values that count as foreground, for labels of kind ``classes``.
            classes: Names of all classes of the label, the background first, where they are to be told apart; a pixel
                of the mask then has the position of its class in this list.

        Raises:
            UserError: if the label does not exist, has an unknown class, needs a foreground to become binary, or has
                other classes than ``classes``.
        """
        mask = None if label is None else sample.label(label)
        shape = sample.image.shape
        known: tuple[tuple[int, str], ...] = ()
        if mask is None:
            values: tuple[int, ...] = ()
        elif classes:
            known = class_values(sample.key, str(label), mask, classes)
            values = tuple(value for value, _ in known[1:])
        else:
            values = foreground_values(sample.key, str(label), mask, foreground)
        return cls(sample.key, sample.image, mask, values, sample.pixel_size_nm, (0,) * len(shape), shape, known)

    def window(self, start: Sequence[int], stop: Sequence[int]) -> "MosaicView":
        """The part from ``start`` to ``stop`` (exclusive), in px of this mosaic, as a mosaic of its own."""
        where = ", ".join(f"{first}:{last}" for first, last in zip(start, stop, strict=True))
        return replace(
            self,
            key=f"{self.key}[{where}]",
            start=tuple(offset + first for offset, first in zip(self.start, start, strict=True)),
            shape=tuple(last - first for first, last in zip(start, stop, strict=True)),
        )

    def along(self, *axes: int) -> "MosaicView":
        """The same volume with its axes in another order, as a mosaic of its own.

        Args:
            axes: Axis of this view that each axis of the new one is; ``(1, 0, 2)`` makes planes xz out of xy.
        """
        return replace(
            self,
            key=f"{self.key} ({''.join('zyx'[axis] for axis in axes)})",
            pixel_size_nm=tuple(self.pixel_size_nm[axis] for axis in axes),
            start=tuple(self.start[axis] for axis in axes),
            shape=tuple(self.shape[axis] for axis in axes),
            axes=tuple(self.axes[axis] for axis in axes) if self.axes else axes,
        )

    def as_plane(self) -> "MosaicView":
        """An image as a volume of one plane; a pixel is as thick as it is high."""
        return replace(
            self,
            pixel_size_nm=(self.pixel_size_nm[0], *self.pixel_size_nm),
            start=(0, *self.start),
            shape=(1, *self.shape),
            axes=(None, 0, 1),
        )

    def read_image(self, origin: Sequence[int], size: Sequence[int]) -> NDArray[np.uint8]:
        """Grey levels of a patch; what lies outside the window is mirrored from inside."""
        pixels: NDArray[np.uint8] = self._read(self.image, origin, size, None)
        return pixels

    def read_mask(self, origin: Sequence[int], size: Sequence[int]) -> NDArray[np.uint8]:
        """Mask of a patch: 0 background, 1 foreground, 255 for ignored pixels and those outside the window.

        Of a view with classes, the position of each pixel's class in their list instead of 0 and 1.

        Raises:
            UserError: if the mosaic has no label.
        """
        if self.mask is None or self.mask.info is None:
            raise UserError(f"{self.key} has no label to read")
        info = self.mask.info
        values = self._read(self.mask, origin, size, info.ignore or 0)
        if self.classes:
            mask: NDArray[np.uint8] = class_positions(values, self.classes, self.mask.what)
        elif info.kind == "binary" and self.foreground == (1,):
            mask = values
        else:
            chosen = is_one_of(values, self.foreground) if self.foreground else values != 0
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
        pixels = self._read_region(array, region)
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

    def _read_region(self, array: ArrayRef, region: Sequence[slice]) -> NDArray[Any]:
        if not self.axes:
            return read(array, region)
        of_sample = [axis for axis in self.axes if axis is not None]
        pixels = read(array, [region[self.axes.index(axis)] for axis in range(len(of_sample))])
        added = [place for place, axis in enumerate(self.axes) if axis is None]
        return np.expand_dims(np.ascontiguousarray(pixels.transpose(of_sample)), added)

    def _ignore_outside(self, mask: NDArray[np.uint8], origin: Sequence[int]) -> None:
        for axis, (first, side) in enumerate(zip(origin, self.shape, strict=True)):
            rows = np.arange(first, first + mask.shape[axis])
            outside = [slice(None)] * mask.ndim
            for row in np.flatnonzero((rows < 0) | (rows >= side)):
                outside[axis] = slice(int(row), int(row) + 1)
                mask[tuple(outside)] = IGNORE
