"""Samples, views of them as training and evaluation see them, and the one function that reads pixels."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.store import tensors
from data_modules.store.layout import LabelInfo, ReadError, is_url
from data_modules.store.sharded import Sharded, local_stamp

Pixels = NDArray[Any]
_FEW = 8
"""Values up to which comparing one by one is faster than looking them up."""
_UNKNOWN = 254
"""Entry of values without a class in tables of classes, of which there are fewer."""


@dataclass(frozen=True)
class ArrayRef:
    """Where one array of a sample lies and what it holds; plain data that is cheap to send to a worker.

    Attributes:
        path: Folder or URL of the zarr array.
        what: Name for messages, e.g. ``image of train/a``.
        shape: Size in px.
        dtype: Name of the data type.
        complete: Whether every chunk was written, so that a missing one is damage and not the fill value.
        info: Meaning of the values of a label; ``None`` for images.
        stamp: Text that changes when the array is replaced by another; empty to read whatever is there.
    """

    path: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    complete: bool
    info: LabelInfo | None = None
    stamp: str = ""

    @functools.cached_property
    def is_remote(self) -> bool:
        """Whether the array lies behind a URL."""
        return is_url(self.path)


@dataclass(frozen=True)
class Sample:
    """One image of a store with its labels.

    Attributes:
        split: Name of the split.
        name: Name of the sample.
        image: Full-resolution image.
        pixel_size_nm: One value an axis.
        labels: Full-resolution labels by name.
        provenance: Record of the conversion.
    """

    split: str
    name: str
    image: ArrayRef
    pixel_size_nm: tuple[float, ...]
    labels: Mapping[str, ArrayRef]
    provenance: Mapping[str, Any]

    @property
    def key(self) -> str:
        """``<split>/<sample>``."""
        return f"{self.split}/{self.name}"

    def label(self, name: str) -> ArrayRef:
        """The label called ``name``.

        Raises:
            UserError: if the sample has none of that name, naming those it has.
        """
        if name not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none"
            raise UserError(f"sample {self.key} has no label {name!r}; it has: {known} ({self.image.path})")
        return self.labels[name]


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
        """View the whole of ``sample``.

        Args:
            sample: Sample of a store.
            label: Name of the label to learn or score, or ``None``.
            foreground: Class names or values that count as foreground, for labels of kind ``classes``.
            classes: Names of all classes of the label, the background first, where they are to be told apart; a pixel
                of the mask then has the position of its class in this list.

        Raises:
            UserError: if the label does not exist, has an unknown class, needs a foreground to become binary, or has
                other classes than ``classes``.
        """
        mask = None if label is None else sample.label(label)
        known: tuple[tuple[int, str], ...] = ()
        values: tuple[int, ...] = ()
        if mask is not None:
            assert mask.info is not None
            name = f"label {label!r} of {sample.key}"
            if classes:
                known = mask.info.class_values(classes, name)
                values = tuple(value for value, _ in known[1:])
            else:
                values = mask.info.foreground_values(foreground, name)
        shape = sample.image.shape
        return cls(sample.key, sample.image, mask, values, sample.pixel_size_nm, (0,) * len(shape), shape, known)

    def window(self, start: Sequence[int], stop: Sequence[int]) -> "MosaicView":
        """Cut out the part from ``start`` to ``stop`` (exclusive), in px of this mosaic, as a mosaic of its own."""
        where = ", ".join(f"{first}:{last}" for first, last in zip(start, stop, strict=True))
        return replace(
            self,
            key=f"{self.key}[{where}]",
            start=tuple(offset + first for offset, first in zip(self.start, start, strict=True)),
            shape=tuple(last - first for first, last in zip(start, stop, strict=True)),
        )

    def along(self, *axes: int) -> "MosaicView":
        """Reorder the axes of a volume, as a mosaic of its own.

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
        """Turn an image into a volume of one plane; a pixel is as thick as it is high."""
        return replace(
            self,
            pixel_size_nm=(self.pixel_size_nm[0], *self.pixel_size_nm),
            start=(0, *self.start),
            shape=(1, *self.shape),
            axes=(None, 0, 1),
        )

    def read_image(self, origin: Sequence[int], size: Sequence[int]) -> NDArray[np.uint8]:
        """Read grey levels of a patch; what lies outside the window is mirrored from inside."""
        pixels, pad = self._read(self.image, origin, size)
        # Symmetric padding mirrors as often as needed, for mosaics far smaller than a tile.
        return np.pad(pixels, pad, mode="symmetric") if pad else pixels

    def read_mask(self, origin: Sequence[int], size: Sequence[int]) -> NDArray[np.uint8]:
        """Read the mask of a patch: 0 background, 1 foreground, 255 for ignored pixels and those outside the window.

        A view with classes gives the position of each pixel's class in their list instead of 0 and 1.

        Raises:
            UserError: if the mosaic has no label, or has values that are no class.
        """
        if self.mask is None or self.mask.info is None:
            raise UserError(f"{self.key} has no label to read")
        kind = self.mask.info.kind
        values, pad = self._read(self.mask, origin, size)
        if self.classes:
            mask = _class_positions(values, self.classes, self.mask.what)
        elif kind == "binary" and self.foreground == (1,):
            mask = values
        else:
            mask = (_is_one_of(values, self.foreground) if self.foreground else values != 0).view(np.uint8)
            if kind != "instances":
                # 1 becomes 255, IGNORE; a boolean index takes ten times as long.
                mask |= np.negative((values == IGNORE).view(np.uint8))
        return np.pad(mask, pad, constant_values=IGNORE) if pad else mask

    def _read(
        self, array: ArrayRef, origin: Sequence[int], size: Sequence[int]
    ) -> tuple[Pixels, list[tuple[int, int]] | None]:
        """Read the part of a patch that lies inside the window; also returns what is missing around it, if anything."""
        inside = [
            slice(max(0, first), min(side, first + extent))
            for side, first, extent in zip(self.shape, origin, size, strict=True)
        ]
        region = [slice(s + part.start, s + part.stop) for s, part in zip(self.start, inside, strict=True)]
        if not self.axes:
            pixels = read(array, region)
        else:
            of_sample = [axis for axis in self.axes if axis is not None]
            pixels = read(array, [region[self.axes.index(axis)] for axis in range(len(of_sample))])
            added = [place for place, axis in enumerate(self.axes) if axis is None]
            pixels = np.expand_dims(np.ascontiguousarray(pixels.transpose(of_sample)), added)
        if pixels.shape == tuple(size):
            return pixels, None
        return pixels, [
            (part.start - first, first + extent - part.stop)
            for part, first, extent in zip(inside, origin, size, strict=True)
        ]


def _is_one_of(values: Pixels, chosen: Sequence[int]) -> NDArray[np.bool_]:
    if len(chosen) > _FEW:
        return np.isin(values, np.asarray(chosen, values.dtype))
    found: NDArray[np.bool_] = values == chosen[0]
    for value in chosen[1:]:
        found |= values == value
    return found


def _class_positions(values: Pixels, classes: tuple[tuple[int, str], ...], what: str) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = _class_table(classes)[values]
    if (found == _UNKNOWN).any():
        unknown = sorted(set(values[found == _UNKNOWN].tolist()))
        raise UserError(f"{what} has the values {unknown}, which are no class of it: convert it again with all classes")
    return found


@functools.lru_cache
def _class_table(classes: tuple[tuple[int, str], ...]) -> NDArray[np.uint8]:
    table = np.full(256, _UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[[value for value, _ in classes]] = np.arange(len(classes), dtype=np.uint8)
    table.flags.writeable = False
    return table


def read(array: ArrayRef, region: Sequence[slice]) -> Pixels:
    """Read a region that lies inside the array; all pixels of stores are read here.

    Args:
        array: Array of a :class:`Sample`.
        region: One slice with start and stop an axis, in px.

    Returns:
        A new array of the region's shape and the store's data type.

    Raises:
        UserError: if a chunk is missing or damaged, naming sample, region and file; if the array is another one than
            when its sample was opened; if a URL does not answer.
    """
    try:
        try:
            pixels = _read(array, region)
        except ReadError:
            _refuse_replaced(array)
            raise
        # Afterwards, because an array may be replaced while it is read.
        _refuse_replaced(array)
    except ReadError as failure:
        if failure.kind == "replaced":
            raise UserError(
                f"{array.what}: {array.path} was replaced while this run was reading it: start the run again"
            ) from failure
        where = ", ".join(f"{part.start}:{part.stop}" for part in region)
        state, advice = (
            ("cannot be read", "Check the network, the address and the permissions, and start the run again")
            if failure.kind == "unreadable"
            else (f"is {failure.kind}", "Run `emseg data verify STORE` for the full list and convert the sample again")
        )
        raise UserError(
            f"{array.what}: stored data {state} in region [{where}] of {array.path}. {advice}.\n  cause: {failure}"
        ) from failure
    return pixels


def _read(array: ArrayRef, region: Sequence[slice]) -> Pixels:
    if not all(0 <= part.start <= part.stop <= side for part, side in zip(region, array.shape, strict=True)):
        raise ReadError("unreadable", f"the region does not lie inside {array.shape} px")
    layout = None
    if not array.is_remote:
        try:
            layout = _parse_layout(array.path, array.complete, array.stamp or local_stamp(array.path))
        except (OSError, ValueError) as error:
            raise ReadError("unreadable", f"{array.path}/zarr.json: {error}") from error
    if layout is None:
        return tensors.read_array(array.path, array.complete, array.stamp, region)
    if layout.shape != array.shape:
        raise ReadError("damaged", f"{array.path}/zarr.json says {layout.shape} px instead of {array.shape}")
    return layout.read(array.path, region)


@functools.lru_cache(maxsize=4096)
def _parse_layout(path: str, complete: bool, stamp: str) -> Sharded | None:
    # The stamp serves the cache alone: an array that replaces another must not be read as the old one.
    return Sharded.parse(json.loads((Path(path) / "zarr.json").read_bytes()), complete)


def _refuse_replaced(array: ArrayRef) -> None:
    if not array.stamp or array.is_remote:
        return
    try:
        stamp = local_stamp(array.path)
    except OSError as error:
        raise UserError(
            f"{array.what}: {array.path} has gone since this run opened it ({error.strerror}): was it moved, deleted "
            "or unmounted? Bring it back and start the run again"
        ) from error
    if stamp != array.stamp:
        raise ReadError("replaced", array.path)
