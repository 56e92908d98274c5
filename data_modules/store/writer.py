"""Writing samples: bands of rows go in, whole shards come out, and a sample appears only when it is complete."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from data_modules.errors import UserError
from data_modules.store import layout
from data_modules.store.layout import Attributes, LabelInfo

Band = NDArray[np.generic]


def create_array(group: Path, name: str, shape: Sequence[int], dtype: DTypeLike, compress: bool) -> "zarr.Array[Any]":
    """Make one sharded, checksummed zarr v3 array that stores every chunk, empty ones too.

    Images are not compressed (zstd gains 2 % on electron micrographs and costs reading time), labels are.
    """
    chunk, shard = layout.chunk_and_shard(shape)
    codecs: list[Any] = [ZstdCodec(level=3), Crc32cCodec()] if compress else [Crc32cCodec()]
    return zarr.create_array(
        store=group / name,
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=chunk,
        shards=shard,
        compressors=codecs,
        fill_value=0,
        dimension_names=layout.AXES[len(shape)],
        attributes={"emseg": {"format": layout.FORMAT, "every_chunk_written": True}},
        config={"write_empty_chunks": True},
    )


class ArrayWriter:
    """Fills an array from top to bottom; rows are gathered until they fill a row of shards.

    Args:
        array: The array, as :func:`create_array` makes it.
        start: First row to be written, a multiple of the shard height.
        stop: Row to end before, a multiple of the shard height or the array's height, which is the default.
    """

    def __init__(self, array: "zarr.Array[Any]", start: int = 0, stop: int | None = None) -> None:
        self._array = array
        assert array.shards is not None
        self._height = array.shards[0]
        if start % self._height:
            raise ValueError(f"row {start} does not begin a shard (shards have {self._height} rows)")
        self._next = start
        self._stop = array.shape[0] if stop is None else stop
        if self._stop % self._height and self._stop != array.shape[0]:
            raise ValueError(f"row {self._stop} does not end a shard (shards have {self._height} rows)")
        self._pending: list[Band] = []

    @property
    def rows_written(self) -> int:
        """First row that is not on disk yet."""
        return self._next

    def write(self, band: Band) -> None:
        """Append rows, ``(n, …)`` of the array's other sides and data type.

        Raises:
            ValueError: if the band has another width or type, or reaches past the end.
        """
        if band.shape[1:] != self._array.shape[1:] or band.dtype != self._array.dtype:
            raise ValueError(
                f"a band of {band.shape[1:]} {band.dtype} does not fit an array of "
                f"{self._array.shape[1:]} {self._array.dtype}"
            )
        held = sum(len(rows) for rows in self._pending) + len(band)
        if self._next + held > self._stop:
            raise ValueError(f"{self._next + held} rows do not fit an array that ends at row {self._stop}")
        self._pending.append(band)
        if held >= self._height or self._next + held == self._stop:
            self._flush()

    def _flush(self) -> None:
        rows = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
        at_end = self._next + len(rows) == self._stop
        whole = len(rows) if at_end else len(rows) // self._height * self._height
        self._array[self._next : self._next + whole] = rows[:whole]
        self._next += whole
        self._pending = [rows[whole:]] if whole < len(rows) else []

    def close(self) -> None:
        """Check that every row has come.

        Raises:
            ValueError: if rows are missing.
        """
        if self._next != self._stop:
            raise ValueError(f"only {self._next} of {self._stop} rows were written")


@dataclass
class _Pyramid:
    group: Path
    writer: ArrayWriter
    info: LabelInfo | None
    provenance: Attributes


class SampleWriter:
    """Writes one sample: its image, its labels, the pyramids and the metadata.

    Everything goes into a hidden folder that is renamed at the end, so an interrupted conversion leaves no half sample.

    Args:
        store: Path of the store, made where it does not exist.
        split: ``train``, ``val``, ``test`` or any other name without slashes.
        name: Of the sample, without slashes.
        shape: ``(Y, X)`` or ``(Z, Y, X)`` in px.
        pixel_size_nm: One value an axis.
        provenance: JSON-ready record of the source and of every change to its grey values.
        overwrite: Whether a sample of this name may be replaced.
        rows: Rows that this process writes, for several processes that fill one sample; all by default.
        attach: Whether another process has begun the sample; this one then only writes its rows and must not close it.

    Raises:
        UserError: if the sample exists and ``overwrite`` is false.

    Example:
        >>> with SampleWriter(path, "train", "a", (64, 64), (4.0, 4.0)) as sample:  # doctest: +SKIP
        ...     mask = sample.add_label("membrane", LabelInfo("binary"))
        ...     sample.image.write(grey_rows)
        ...     mask.write(mask_rows)
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        split: str,
        name: str,
        shape: Sequence[int],
        pixel_size_nm: Sequence[float],
        provenance: Attributes | None = None,
        overwrite: bool = False,
        rows: tuple[int, int] | None = None,
        attach: bool = False,
    ) -> None:
        self.store = Path(store)
        for part in (split, name):
            if not part or "/" in part or part.startswith("."):
                raise UserError(f"{part!r} cannot name a split or sample: no slashes and no leading dot, please")
        self.target = self.store / split / name
        """Folder of the finished sample."""
        if self.target.exists() and not overwrite:
            raise UserError(f"{self.target} exists: choose another --out, or pass --overwrite to replace it")
        if len(shape) not in layout.AXES or len(pixel_size_nm) != len(shape) or min(shape) < 1:
            raise UserError(f"sample {split}/{name}: shape {tuple(shape)} px with pixel size {tuple(pixel_size_nm)} nm")
        self._shape = tuple(int(side) for side in shape)
        self._pixel_size_nm = tuple(float(size) for size in pixel_size_nm)
        self._name = name
        self._root = self.target.with_name(f".{name}.partial")
        self._rows = rows or (0, self._shape[0])
        self._attach = attach
        if not attach:
            shutil.rmtree(self._root, ignore_errors=True)
            for group in (self.store, self.target.parent):
                _ensure_group(group, {"emseg": {"format": layout.FORMAT}})
            _ensure_group(self._root, {})
        self._pyramids: dict[str | None, _Pyramid] = {}
        self.image = self._add(None, self._root, np.uint8, None, provenance or {})

    def _add(
        self, key: str | None, group: Path, dtype: DTypeLike, info: LabelInfo | None, provenance: Attributes
    ) -> ArrayWriter:
        if self._attach:
            # Opening takes no such setting in all versions of zarr: without it, empty chunks would be left out.
            array = zarr.open_array(group / "0", mode="r+").with_config({"write_empty_chunks": True})
        else:
            _ensure_group(group, {})
            array = create_array(group, "0", self._shape, dtype, compress=info is not None)
        writer = ArrayWriter(array, *self._rows)
        self._pyramids[key] = _Pyramid(group, writer, info, provenance)
        return writer

    def add_label(
        self, name: str, info: LabelInfo, dtype: DTypeLike = np.uint8, provenance: Attributes | None = None
    ) -> ArrayWriter:
        """Begin a label of the image's shape; ``instances`` may be ``uint32`` or ``uint64``."""
        allowed = (np.uint32, np.uint64) if info.kind == "instances" else (np.uint8,)
        if np.dtype(dtype) not in [np.dtype(kind) for kind in allowed]:
            raise ValueError(f"label {name!r} of kind {info.kind} cannot be {np.dtype(dtype)}")
        return self._add(name, self._root / "labels" / name, dtype, info, provenance or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        self.close()

    @property
    def complete(self) -> bool:
        """Whether this process has written all of its rows."""
        return all(pyramid.writer.rows_written == self._rows[1] for pyramid in self._pyramids.values())

    def discard(self) -> None:
        """Remove what was written of the sample."""
        shutil.rmtree(self._root, ignore_errors=True)

    def close(self) -> None:
        """Write pyramids and metadata and put the sample in its place.

        Raises:
            ValueError: if an array did not get all its rows.
        """
        levels = len(layout.level_shapes(self._shape))
        labels = [key for key in self._pyramids if key is not None]
        for key, pyramid in self._pyramids.items():
            pyramid.writer.close()
            _write_levels(pyramid.group, self._shape, pyramid.info)
            if pyramid.info is None:
                attributes = layout.image_attributes(self._name, levels, self._pixel_size_nm, pyramid.provenance)
            else:
                info = replace(pyramid.info, counts=_count_values(pyramid.group / "0"))
                attributes = layout.label_attributes(str(key), levels, self._pixel_size_nm, info, pyramid.provenance)
            _ensure_group(pyramid.group, attributes)
        if labels:
            _ensure_group(self._root / "labels", {"ome": {"version": layout.OME_VERSION, "labels": labels}})
        # A sample that is replaced goes last, so that a kill at any instant loses neither the old one nor the new one.
        replaced = self.target.with_name(f".{self.target.name}.replaced")
        if self.target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            self.target.rename(replaced)
        self._root.rename(self.target)
        shutil.rmtree(replaced, ignore_errors=True)


def _count_values(array: Path) -> dict[int, int]:
    """Number of pixels by value, of ``uint8`` labels; nothing for ids."""
    values = zarr.open_array(array, mode="r")
    if values.dtype != np.uint8:
        return {}
    assert values.shards is not None
    counts = np.zeros(256, np.int64)
    for start in range(0, values.shape[0], values.shards[0]):
        counts += np.bincount(np.asarray(values[start : start + values.shards[0]]).ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in counts.nonzero()[0]}


def _ensure_group(path: Path, attributes: Mapping[str, Any]) -> None:
    zarr.open_group(path, mode="a", zarr_format=3).attrs.update(dict(attributes))


def _write_levels(group: Path, shape: tuple[int, ...], info: LabelInfo | None) -> None:
    """Halve level after level, a row of shards at a time, so that memory does not grow with the height."""
    for level, level_shape in enumerate(layout.level_shapes(shape)[1:], start=1):
        finer = zarr.open_array(group / str(level - 1), mode="r")
        coarser = create_array(group, str(level), level_shape, finer.dtype, compress=info is not None)
        writer = ArrayWriter(coarser)
        halved = 2 if len(shape) == 2 else 1
        assert coarser.shards is not None
        for start in range(0, level_shape[0], coarser.shards[0]):
            stop = min(start + coarser.shards[0], level_shape[0])
            rows = np.asarray(finer[start * halved : stop * halved])
            writer.write(halve_nearest(rows) if info is not None else halve_mean(rows))
        writer.close()


def halve_nearest(rows: Band) -> Band:
    """Every second pixel along Y and X of ``(…, Y, X)``."""
    return np.ascontiguousarray(rows[..., ::2, ::2])


def halve_mean(rows: Band) -> NDArray[np.uint8]:
    """Mean of 2 × 2 pixels, rounded, of ``uint8 (…, Y, X)``; an odd last row or column is repeated."""
    pad = [(0, 0)] * (rows.ndim - 2) + [(0, rows.shape[-2] % 2), (0, rows.shape[-1] % 2)]
    even = np.pad(rows, pad, mode="edge").astype(np.uint16)
    total = even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)
