"""Opening of stores: their splits and samples, and what each sample holds."""

import os

from data_modules.errors import UserError
from data_modules.store.layout import LabelInfo
from data_modules.store.location import Location, locate
from data_modules.store.reader import ArrayRef, Sample

_NM_PER_UNIT = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9, "angstrom": 0.1}


class MosaicStore:
    """Samples in OME-Zarr 0.5, in a folder or behind a URL.

    Args:
        path: Folder, or URL with ``file``, ``s3``, ``gs``, ``http`` or ``https``.

    Raises:
        UserError: if there is no store at ``path``, or if it cannot be reached.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.location = locate(path)
        self.path = str(self.location)
        """Folder or URL."""

    @property
    def splits(self) -> list[str]:
        """Names of the splits, sorted."""
        return [group.key for group in self.location.groups()]

    def samples(self, split: str | None = None) -> list[Sample]:
        """Open the samples of one split, or of all, sorted by split and name.

        Raises:
            UserError: if the split does not exist or is empty.
        """
        present = self.splits
        splits = present if split is None else [split]
        for name in splits:
            if name not in present:
                known = ", ".join(present) or "none"
                raise UserError(f"store {self.path} has no split {name!r}; it has: {known}")
        found = [_open_sample(group) for name in splits for group in self.location.child(name).groups()]
        if split is not None and not found:
            raise UserError(f"split {split!r} of {self.path} is empty: convert images into it with --split {split}")
        return found

    def sample(self, key: str) -> Sample:
        """Open the sample ``<split>/<name>``.

        Raises:
            UserError: if it does not exist.
        """
        group = self.location.child(key)
        if key.count("/") != 1 or not group.exists():
            known = [sample.key for split in self.location.groups() for sample in split.groups()]
            raise UserError(f"store {self.path} has no sample {key!r}; it has: {', '.join(known[:8]) or 'none'}")
        return _open_sample(group)


def _open_sample(folder: Location) -> Sample:
    split, name = folder.key.split("/")
    attributes = folder.metadata().get("attributes", {})
    image, pixel_size_nm = _open_level(folder, f"image of {split}/{name}", None)
    if image.dtype != "uint8":
        raise UserError(
            f"image of {split}/{name} is {image.dtype}, but only 8 bit (uint8) can be read: "
            f"bring it to 8 bit with `emseg data convert` ({image.path})"
        )
    labels = {}
    if folder.child("labels").exists():
        names = folder.child("labels").metadata().get("attributes", {}).get("ome", {}).get("labels", [])
        for label in names:
            group = folder.child(f"labels/{label}")
            declared = group.metadata().get("attributes", {}).get("emseg")
            if not declared or "kind" not in declared:
                raise UserError(
                    f"label {label!r} of {split}/{name} does not declare its kind (binary, classes or instances): "
                    f"write {{'emseg': {{'kind': 'binary'}}}} into the attributes of {group}"
                )
            info = LabelInfo.from_attributes(declared)
            labels[label], _ = _open_level(group, f"label {label!r} of {split}/{name}", info)
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


def _open_level(folder: Location, what: str, info: LabelInfo | None) -> tuple[ArrayRef, tuple[float, ...]]:
    try:
        scales = folder.metadata()["attributes"]["ome"]["multiscales"][0]
        axes, first = scales["axes"], scales["datasets"][0]
        scale = next(t["scale"] for t in first["coordinateTransformations"] if t["type"] == "scale")
        array = folder.child(first["path"])
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
    metadata = array.metadata()
    complete = bool(metadata.get("attributes", {}).get("emseg", {}).get("every_chunk_written"))
    shape, dtype = tuple(metadata["shape"]), metadata["data_type"]
    return ArrayRef(str(array), what, shape, dtype, complete, info, array.stamp()), pixel_size_nm
