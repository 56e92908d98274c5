"""Writing of samples: one appears only when it is complete, and an interrupted one can be continued."""

import itertools
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import zarr
from numpy.typing import DTypeLike

from data_modules.errors import UserError
from data_modules.store import layout
from data_modules.store.arrays import ArrayWriter, Rows, create_array, explain_write_failure, write_levels
from data_modules.store.layout import Attributes, LabelInfo
from data_modules.store.location import local_folder
from data_modules.store.reader import ArrayRef, read
from data_modules.store.samples import MosaicStore


def consolidate(store: str | os.PathLike[str]) -> int:
    """Write zarr's consolidated metadata into the ``zarr.json`` of a local store.

    It holds for the samples of this moment; local reading never uses it.

    Args:
        store: Folder of the store.

    Returns:
        Number of samples.

    Raises:
        UserError: if there is no store, if it is a URL, or if a sample cannot be opened.
    """
    folder = local_folder(store)
    samples = MosaicStore(folder).samples()
    with warnings.catch_warnings():
        # That it is not part of the specification yet, and that hidden folders are no zarr nodes.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(str(folder))
    return len(samples)


def forget_consolidated(store: Path) -> None:
    """Remove the list, which is out of date as soon as a sample is added.

    Args:
        store: Folder of the store.
    """
    path = store / "zarr.json"
    content = json.loads(path.read_bytes())
    if content.pop("consolidated_metadata", None) is None:
        return
    part = path.with_name(f".zarr.json.{os.getpid()}.partial")
    part.write_text(json.dumps(content, indent=2))
    part.replace(path)


class SampleWriter:
    """Writer of one sample: its image, its labels, the pyramids and the metadata.

    Everything goes into a hidden folder that is renamed at the end, so an interrupted conversion leaves no half sample.

    Args:
        store: Path of the store, made where it does not exist.
        split: ``train``, ``val``, ``test`` or any other name without slashes.
        name: Name of the sample, without slashes.
        shape: ``(Y, X)`` or ``(Z, Y, X)`` in px.
        pixel_size_nm: One value an axis.
        provenance: JSON-ready record of the source and of every change to its grey values.
        overwrite: Whether a sample of this name may be replaced.
        rows: Spans of rows that this process writes, where several processes or runs fill one sample; all by default.
        attach: Whether another process has begun the sample; this one then only writes its rows and must not close it.
        resume: Whether to keep what an interrupted run has written; see :func:`find_earlier`.

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
        self._writers: dict[str | None, ArrayWriter] = {}
        self._labels: dict[str, tuple[LabelInfo, Attributes]] = {}
        self._provenance = provenance or {}
        if not attach:
            self._begin()
        self.image = self._add(None, np.uint8)

    def _begin(self) -> None:
        if not self._keep:
            shutil.rmtree(self._root, ignore_errors=True)
        try:
            for group in (self.store, self.target.parent):
                _ensure_group(group, {"emseg": {"format": layout.FORMAT}})
            # Written first, so that whoever finds the folder unfinished knows what it was to become.
            _ensure_group(self._root, {"emseg": {"format": layout.FORMAT, "provenance": self._provenance}})
        except OSError as error:
            raise UserError(explain_write_failure(error, str(self.target))) from error

    def _group(self, label: str | None) -> Path:
        return self._root if label is None else self._root / "labels" / label

    def _add(self, label: str | None, dtype: DTypeLike) -> ArrayWriter:
        group = self._group(label)
        if self._keep and (group / "0" / "zarr.json").is_file():
            # Opening takes no such setting in all versions of zarr: without it, empty chunks would be left out.
            array = zarr.open_array(group / "0", mode="r+").with_config({"write_empty_chunks": True})
        else:
            _ensure_group(group, {})
            array = create_array(group, "0", self._shape, dtype, compress=label is not None)
        self._writers[label] = ArrayWriter(array, self._rows)
        return self._writers[label]

    def add_label(
        self, name: str, info: LabelInfo, dtype: DTypeLike = np.uint8, provenance: Attributes | None = None
    ) -> ArrayWriter:
        """Begin a label of the image's shape; ``instances`` may be ``uint32`` or ``uint64``."""
        allowed = (np.uint32, np.uint64) if info.kind == "instances" else (np.uint8,)
        if np.dtype(dtype) not in [np.dtype(kind) for kind in allowed]:
            raise ValueError(f"label {name!r} of kind {info.kind} cannot be {np.dtype(dtype)}")
        self._labels[name] = info, provenance or {}
        return self._add(name, dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            shutil.rmtree(self._root, ignore_errors=True)

    @property
    def complete(self) -> bool:
        """Whether this process has written all of its rows."""
        return all(writer.complete for writer in self._writers.values())

    def discard_if_empty(self) -> bool:
        """Remove the sample if no shard of it has been written; returns whether it is still there."""
        kept = any((self._group(label) / "0" / "c").is_dir() for label in self._writers)
        if not kept:
            shutil.rmtree(self._root, ignore_errors=True)
        return kept

    def close(self) -> None:
        """Write pyramids and metadata and put the sample in its place.

        Raises:
            ValueError: if an array did not get all its rows.
            UserError: if the disk is full or cannot be written for another reason.
        """
        for writer in self._writers.values():
            writer.close()
        replaced = self.target.with_name(f".{self.target.name}.replaced")
        try:
            self._describe()
            # A sample that is replaced goes last, so that a kill at any instant loses neither the old nor the new one.
            if self.target.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                self.target.rename(replaced)
            self._root.rename(self.target)
            shutil.rmtree(replaced, ignore_errors=True)
            forget_consolidated(self.store)
        except OSError as error:
            raise UserError(explain_write_failure(error, str(self.target))) from error

    def _describe(self) -> None:
        levels = len(layout.level_shapes(self._shape))
        write_levels(self._root, self._shape, label=False)
        attributes = layout.group_attributes(self._name, levels, self._pixel_size_nm, self._provenance)
        _ensure_group(self._root, attributes)
        for label, (info, provenance) in self._labels.items():
            group = self._group(label)
            write_levels(group, self._shape, label=True)
            counted = replace(info, counts=_count_values(group / "0"))
            attributes = layout.group_attributes(label, levels, self._pixel_size_nm, provenance, counted)
            _ensure_group(group, attributes)
        if self._labels:
            _ensure_group(self._root / "labels", {"ome": {"version": layout.OME_VERSION, "labels": list(self._labels)}})


def partial_folder(target: Path) -> Path:
    """Name the hidden folder in which the sample at ``target`` is made."""
    return target.with_name(f".{target.name}.partial")


def _count_values(array: Path) -> dict[int, int]:
    """Count pixels by value, of ``uint8`` labels; nothing for ids."""
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


@dataclass(frozen=True)
class Earlier:
    """A sample that an earlier run has begun or finished.

    Attributes:
        state: Whether it is in its place or still in the making.
        provenance: Record with which it was begun; empty where even that was not written.
        rows: Spans of rows that are on disk in all of its arrays and read back without error.
    """

    state: Literal["finished", "partial"]
    provenance: dict[str, Any]
    rows: tuple[Rows, ...]


def find_earlier(target: Path, labels: Sequence[str], shape: Sequence[int]) -> Earlier | None:
    """Look for a sample and, where it is not finished, for its rows.

    Args:
        target: ``<store>/<split>/<sample>``.
        labels: Names of the labels that the sample is to have.
        shape: Shape of the sample in px.

    Returns:
        What was found; the finished sample only where there is none in the making, of which rows are left.
    """
    part = partial_folder(target)
    step = layout.shard_rows(shape)
    rows: list[Rows] = []
    for start in range(0, shape[0], step) if part.is_dir() else ():
        stop = min(start + step, shape[0])
        if all(_is_sound(array, tuple(shape), start, stop) for array in _arrays_of(part, labels)):
            joined = rows.pop()[0] if rows and rows[-1][1] == start else start
            rows.append((joined, stop))
    if not rows and not target.is_dir():
        return None
    try:
        found = json.loads(((part if rows else target) / "zarr.json").read_text())["attributes"]["emseg"]["provenance"]
    except (OSError, ValueError, KeyError):
        found = {}
    return Earlier("partial", dict(found), tuple(rows)) if rows else Earlier("finished", dict(found), ((0, shape[0]),))


def clear_rest(target: Path, labels: Sequence[str], shape: Sequence[int], rows: Sequence[Rows]) -> None:
    """Delete what a kill has left of a sample beside ``rows``: damaged shards and files of writes cut short.

    Zarr would read a damaged shard before it writes to it, and refuse.

    Args:
        target: ``<store>/<split>/<sample>``.
        labels: Names of the labels that the sample is to have.
        shape: Shape of the sample in px.
        rows: Rows that :func:`find_earlier` has found.
    """
    part = partial_folder(target)
    stray = [*part.rglob("*.partial"), *target.parent.glob("zarr.*.partial"), *target.parents[1].glob("zarr.*.partial")]
    for path in stray:
        path.unlink(missing_ok=True)
    step = layout.shard_rows(shape)
    kept = {row for start, stop in rows for row in range(start, stop, step)}
    for array in _arrays_of(part, labels):
        for start in set(range(0, shape[0], step)) - kept:
            shutil.rmtree(array / "c" / str(start // step), ignore_errors=True)


def _arrays_of(part: Path, labels: Sequence[str]) -> list[Path]:
    return [part / "0", *(part / "labels" / label / "0" for label in labels)]


def _is_sound(array: Path, shape: tuple[int, ...], start: int, stop: int) -> bool:
    """Whether all shards of a row are there and their checksums fit."""
    _, shard = layout.chunk_and_shard(shape)
    across = [range(-(-side // step)) for side, step in zip(shape[1:], shard[1:], strict=True)]
    row = start // shard[0]
    if not all((array / "c" / "/".join(map(str, (row, *rest)))).is_file() for rest in itertools.product(*across)):
        return False
    whole = ArrayRef(str(array), "unfinished prediction", shape, "uint8", complete=True)
    try:
        for column in across[-1]:
            last = slice(column * shard[-1], min((column + 1) * shard[-1], shape[-1]))
            read(whole, (slice(start, stop), *(slice(0, side) for side in shape[1:-1]), last))
    except UserError:
        return False
    return True
