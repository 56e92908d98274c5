"""Writing samples: a sample appears only when it is complete, and an interrupted one can be continued."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import DTypeLike

from data_modules.errors import UserError
from data_modules.store import layout
from data_modules.store.arrays import ArrayWriter, Rows, create_array, explain_failure, open_array
from data_modules.store.consolidation import forget_consolidated
from data_modules.store.layout import Attributes, LabelInfo
from data_modules.store.location import local_folder
from data_modules.store.pyramid import write_levels


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
        rows: Spans of rows that this process writes, where several processes or runs fill one sample; all by default.
        attach: Whether another process has begun the sample; this one then only writes its rows and must not close it.
        resume: Whether to keep what an interrupted run has written; see :mod:`data_modules.store.unfinished`.

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
        rows: Sequence[Rows] | None = None,
        attach: bool = False,
        resume: bool = False,
    ) -> None:
        self.store = local_folder(store)
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
        self._root = partial_folder(self.target)
        self._rows = rows
        self._keep = attach or resume
        if not attach:
            self._begin(provenance or {})
        self._pyramids: dict[str | None, _Pyramid] = {}
        self.image = self._add(None, self._root, np.uint8, None, provenance or {})

    def _begin(self, provenance: Attributes) -> None:
        if not self._keep:
            shutil.rmtree(self._root, ignore_errors=True)
        try:
            for group in (self.store, self.target.parent):
                _ensure_group(group, {"emseg": {"format": layout.FORMAT}})
            # Written first, so that whoever finds the folder unfinished knows what it was to become.
            _ensure_group(self._root, {"emseg": {"format": layout.FORMAT, "provenance": provenance}})
        except OSError as error:
            raise UserError(explain_failure(error, str(self.target))) from error

    def _add(
        self, key: str | None, group: Path, dtype: DTypeLike, info: LabelInfo | None, provenance: Attributes
    ) -> ArrayWriter:
        if self._keep and (group / "0" / "zarr.json").is_file():
            array = open_array(group / "0")
        else:
            _ensure_group(group, {})
            array = create_array(group, "0", self._shape, dtype, compress=info is not None)
        writer = ArrayWriter(array, self._rows)
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
        return all(pyramid.writer.complete for pyramid in self._pyramids.values())

    def discard(self) -> None:
        """Remove what was written of the sample."""
        shutil.rmtree(self._root, ignore_errors=True)

    def discard_if_empty(self) -> bool:
        """Remove the sample if no shard of it has been written; returns whether it is still there."""
        kept = any((pyramid.group / "0" / "c").is_dir() for pyramid in self._pyramids.values())
        if not kept:
            self.discard()
        return kept

    def close(self) -> None:
        """Write pyramids and metadata and put the sample in its place.

        Raises:
            ValueError: if an array did not get all its rows.
            UserError: if the disk is full or cannot be written for another reason.
        """
        for pyramid in self._pyramids.values():
            pyramid.writer.close()
        try:
            self._describe()
            self._put_in_place()
            forget_consolidated(self.store)
        except OSError as error:
            raise UserError(explain_failure(error, str(self.target))) from error

    def _describe(self) -> None:
        levels = len(layout.level_shapes(self._shape))
        for key, pyramid in self._pyramids.items():
            write_levels(pyramid.group, self._shape, label=pyramid.info is not None)
            if pyramid.info is None:
                attributes = layout.image_attributes(self._name, levels, self._pixel_size_nm, pyramid.provenance)
            else:
                info = replace(pyramid.info, counts=_count_values(pyramid.group / "0"))
                attributes = layout.label_attributes(str(key), levels, self._pixel_size_nm, info, pyramid.provenance)
            _ensure_group(pyramid.group, attributes)
        if labels := [key for key in self._pyramids if key is not None]:
            _ensure_group(self._root / "labels", {"ome": {"version": layout.OME_VERSION, "labels": labels}})

    def _put_in_place(self) -> None:
        # A sample that is replaced goes last, so that a kill at any instant loses neither the old one nor the new one.
        replaced = self.target.with_name(f".{self.target.name}.replaced")
        if self.target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            self.target.rename(replaced)
        self._root.rename(self.target)
        shutil.rmtree(replaced, ignore_errors=True)


def partial_folder(target: Path) -> Path:
    """Hidden folder in which the sample at ``target`` is made."""
    return target.with_name(f".{target.name}.partial")


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
