"""Opening stores and reading regions; every read of pixels in this project goes through :func:`read`."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store.layout import LabelInfo

Pixels = NDArray[Any]
_NM_PER_UNIT = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9, "angstrom": 0.1}


@dataclass(frozen=True)
class ArrayRef:
    """Where one array of a sample lies and what it holds; plain data that is cheap to send to a worker.

    Attributes:
        path: Folder of the zarr array.
        what: For messages, e.g. ``image of train/a``.
        shape: In px.
        dtype: Name of the data type.
        complete: Whether every chunk was written, so that a missing one is damage and not the fill value.
        info: What label values mean; ``None`` for images.
    """

    path: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    complete: bool
    info: LabelInfo | None = None


@dataclass(frozen=True)
class Sample:
    """One image of a store with its labels.

    Attributes:
        split: Name of the split.
        name: Of the sample.
        image: Full-resolution image.
        pixel_size_nm: One value an axis.
        labels: Full-resolution labels by name.
        provenance: What conversion recorded.
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


class MosaicStore:
    """A folder of samples in OME-Zarr 0.5.

    Args:
        path: The store.

    Raises:
        UserError: if there is no store at ``path``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"no store at {self.path}: check --data.store, or make one with `emseg data convert`")
        if not (self.path / "zarr.json").is_file():
            raise UserError(f"{self.path} is not a zarr v3 store (no zarr.json): make one with `emseg data convert`")

    @property
    def splits(self) -> list[str]:
        """Names of the splits, sorted."""
        return [folder.name for folder in _groups(self.path)]

    def samples(self, split: str | None = None) -> list[Sample]:
        """Samples of one split, or of all, sorted by split and name.

        Raises:
            UserError: if the split does not exist or is empty.
        """
        splits = self.splits if split is None else [split]
        for name in splits:
            if name not in self.splits:
                known = ", ".join(self.splits) or "none"
                raise UserError(f"store {self.path} has no split {name!r}; it has: {known}")
        found = [_open_sample(folder) for name in splits for folder in _groups(self.path / name)]
        if split is not None and not found:
            raise UserError(f"split {split!r} of {self.path} is empty: convert images into it with --split {split}")
        return found

    def sample(self, key: str) -> Sample:
        """The sample ``<split>/<name>``.

        Raises:
            UserError: if it does not exist.
        """
        folder = self.path / key
        if key.count("/") != 1 or not folder.is_dir():
            known = [f"{split}/{sample.name}" for split in self.splits for sample in _groups(self.path / split)]
            raise UserError(f"store {self.path} has no sample {key!r}; it has: {', '.join(known[:8]) or 'none'}")
        return _open_sample(folder)


def _groups(folder: Path) -> list[Path]:
    return sorted(
        child for child in folder.iterdir() if not child.name.startswith(".") and (child / "zarr.json").is_file()
    )


def _metadata(folder: Path) -> dict[str, Any]:
    path = folder / "zarr.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the store is damaged; convert this sample again") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged ({error}): convert this sample again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no zarr metadata: convert this sample again")
    return content


def _open_sample(folder: Path) -> Sample:
    split, name = folder.parts[-2:]
    attributes = _metadata(folder).get("attributes", {})
    image, pixel_size_nm = _open_level(folder, f"image of {split}/{name}", None)
    if image.dtype != "uint8":
        raise UserError(
            f"image of {split}/{name} is {image.dtype}, but only 8 bit (uint8) can be read: "
            f"bring it to 8 bit with `emseg data convert` ({image.path})"
        )
    labels = {}
    if (folder / "labels").is_dir():
        names = _metadata(folder / "labels").get("attributes", {}).get("ome", {}).get("labels", [])
        for label in names:
            declared = _metadata(folder / "labels" / label).get("attributes", {}).get("emseg")
            if not declared or "kind" not in declared:
                raise UserError(
                    f"label {label!r} of {split}/{name} does not declare its kind (binary, classes or instances): "
                    f"write {{'emseg': {{'kind': 'binary'}}}} into the attributes of {folder / 'labels' / label}"
                )
            info = LabelInfo.from_attributes(declared)
            labels[label], _ = _open_level(folder / "labels" / label, f"label {label!r} of {split}/{name}", info)
            if info.kind != "instances" and labels[label].dtype != "uint8":
                raise UserError(
                    f"label {label!r} of {split}/{name} is {info.kind} but {labels[label].dtype}; only uint8 can be "
                    f"read, with 255 for ignored pixels ({labels[label].path})"
                )
            if labels[label].shape != image.shape:
                raise UserError(
                    f"sample {split}/{name}: image is {image.shape} px but label {label!r} is "
                    f"{labels[label].shape} px; convert both from files of one size"
                )
    provenance = attributes.get("emseg", {}).get("provenance", {})
    return Sample(split, name, image, pixel_size_nm, labels, provenance)


def _open_level(folder: Path, what: str, info: LabelInfo | None) -> tuple[ArrayRef, tuple[float, ...]]:
    try:
        scales = _metadata(folder)["attributes"]["ome"]["multiscales"][0]
        axes, first = scales["axes"], scales["datasets"][0]
        scale = next(t["scale"] for t in first["coordinateTransformations"] if t["type"] == "scale")
        path = folder / first["path"]
    except (KeyError, IndexError, StopIteration):
        raise UserError(
            f"{what}: {folder} is no OME-Zarr 0.5 image group; convert it with `emseg data convert`"
        ) from None
    names = [axis["name"] for axis in axes]
    if names not in (["y", "x"], ["z", "y", "x"]):
        raise UserError(f"{what}: axes are {names}, but only (y, x) and (z, y, x) can be read ({folder})")
    units = [axis.get("unit", "nanometer") for axis in axes]
    unknown = [unit for unit in units if unit not in _NM_PER_UNIT]
    if unknown:
        raise UserError(f"{what}: unit {unknown[0]!r} is unknown; use one of {', '.join(_NM_PER_UNIT)} ({folder})")
    pixel_size_nm = tuple(float(size) * _NM_PER_UNIT[unit] for unit, size in zip(units, scale, strict=True))
    metadata = _metadata(path)
    complete = bool(metadata.get("attributes", {}).get("emseg", {}).get("every_chunk_written"))
    return ArrayRef(str(path), what, tuple(metadata["shape"]), metadata["data_type"], complete, info), pixel_size_nm


@functools.lru_cache(maxsize=512)
def _open_array(path: str, complete: bool, shape: tuple[int, ...], dtype: str) -> Any:
    # Shape and type serve the cache alone: a sample that replaces another must not be read through the old one.
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": path},
        "fill_missing_data_reads": not complete,
    }
    return ts.open(spec, open=True, read=True).result()


def read(array: ArrayRef, region: Sequence[slice]) -> Pixels:
    """Read a region that lies inside the array.

    Args:
        array: From a :class:`Sample`.
        region: One slice with start and stop an axis, in px.

    Returns:
        A new array of the region's shape and the store's data type.

    Raises:
        UserError: if a chunk is missing or damaged, naming sample, region and file.
    """
    try:
        pixels = _open_array(array.path, array.complete, array.shape, array.dtype)[tuple(region)].read().result()
    except ValueError as error:
        raise UserError(_explain(array, region, str(error))) from error
    return np.asarray(pixels)


def _explain(array: ArrayRef, region: Sequence[slice], message: str) -> str:
    # A damaged compressed chunk may fail in zstd, as FAILED_PRECONDITION, before its checksum is compared.
    broken = any(word in message for word in ("DATA_LOSS", "FAILED_PRECONDITION"))
    damage = "is missing" if "NOT_FOUND" in message else "is damaged" if broken else "cannot be read"
    where = ", ".join(f"{part.start}:{part.stop}" for part in region)
    return (
        f"{array.what}: stored data {damage} in region [{where}] of {array.path}. "
        f"Run `emseg data verify STORE` for the full list and convert the sample again.\n  cause: {message}"
    )
