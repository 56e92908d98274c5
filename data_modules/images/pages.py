"""Pages of folders, files, stacks and HDF5 datasets, and the matching of images with labels by name."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from data_modules.errors import UserError
from data_modules.images.raster import HDF5_SUFFIXES, SUFFIXES, Raw, page_shape, pages_in, read_page, readable

HDF5_SPEC = re.compile(r"(?P<file>.+\.(?:h5|hdf5|hdf))(?::(?P<dataset>.+))?", re.IGNORECASE)
"""``FILE.h5:dataset``, the dataset optional."""
_FORMATS = "PNG, JPEG, TIFF or HDF5 (FILE.h5:dataset)"


@dataclass(frozen=True)
class Page:
    """One 2D image inside a file; nothing is read before :meth:`read`.

    Attributes:
        name: Of the sample: the file's stem, with ``-000``, ``-001``, … where the file holds several.
        path: Of the file.
        source: File as the provenance names it: relative to what the user gave, so no path of a machine is stored.
        stem: Of the file.
        number: Position in a file of several pages; ``None`` where it holds one.
        index: Page of a TIFF or section of an HDF5 dataset.
        dataset: Inside an HDF5 file.
    """

    name: str
    path: Path
    source: str
    stem: str
    number: int | None = None
    index: int = 0
    dataset: str | None = None

    @property
    def what(self) -> str:
        """The file and page, for messages."""
        dataset = "" if self.dataset is None else f":{self.dataset}"
        page = "" if self.number is None else f" (page {self.number})"
        return f"{self.path}{dataset}{page}"

    @property
    def record(self) -> dict[str, str | int]:
        """The file and page, JSON-ready, for the provenance."""
        record: dict[str, str | int] = {"source": self.source}
        if self.dataset is not None:
            record["dataset"] = self.dataset
        if self.number is not None:
            record["page"] = self.number
        return record

    def read(self, as_values: bool = False) -> Raw:
        """Read the pixels; see :func:`data_modules.images.raster.read_page`.

        Args:
            as_values: Whether they are class numbers or ids rather than grey.

        Raises:
            UserError: if the file is damaged, coloured or transparent.
        """
        return read_page(self.path, self.index, self.dataset, as_values)

    def shape(self) -> tuple[int, int]:
        """Height and width in px, from the header alone."""
        return page_shape(self.path, self.index, self.dataset)


def natural_key(name: str) -> list[str | int]:
    """Sort key under which ``s2`` comes before ``s10``.

    >>> sorted(["s10", "s2"], key=natural_key)
    ['s2', 's10']
    """
    # re.split alternates text and digits, so like is always compared with like.
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def find_images(spec: str) -> list[Page]:
    """List the pages of a folder, a file, or a dataset.

    Args:
        spec: A folder (its files in natural order, no subfolders), a PNG, JPEG or TIFF file, or ``FILE.h5:dataset``
            (2D, or 3D as a stack of sections; the dataset may be left out where the file holds one only).

    Returns:
        At least one page; names are unique.

    Raises:
        UserError: if there is nothing to read, two files would get one sample name, or a file is damaged.
    """
    path = Path(spec)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if _visible(file)), key=lambda file: natural_key(file.name))
        pages = [page for file in files if file.suffix.lower() in SUFFIXES for page in pages_of(file, path)]
        if skipped := [file.name for file in files if file.suffix.lower() not in SUFFIXES]:
            warnings.warn(f"{path}: not read, since not {_FORMATS}: {shorten(skipped)}", stacklevel=2)
    else:
        pages = _pages_of_spec(spec)
    if not pages:
        raise UserError(f"{spec} holds no {_FORMATS} images: check the path")
    repeated = [name for name, times in Counter(page.name for page in pages).items() if times > 1]
    if repeated:
        files_of = [page.source for page in pages if page.name in repeated]
        raise UserError(f"{spec}: several files would become one sample, rename or move one of: {shorten(files_of)}")
    return pages


def find_images_below(folder: Path, root: Path) -> list[Page]:
    """List the pages of all files in a folder and its subfolders, in natural order.

    Args:
        folder: To be searched.
        root: To which the provenance names files.
    """
    files = [file for file in folder.rglob("*") if _visible(file) and file.suffix.lower() in SUFFIXES]
    files.sort(key=lambda file: natural_key(file.relative_to(folder).as_posix()))
    return [page for file in files for page in pages_of(file, root)]


def pages_of(path: Path, root: Path, dataset: str | None = None) -> list[Page]:
    """List the pages of one file.

    Args:
        path: Of the file.
        root: To which the provenance names the file.
        dataset: Inside an HDF5 file; may be left out where it holds one only.

    Raises:
        UserError: if the file is damaged or the dataset is neither 2D nor 3D.
    """
    source = path.relative_to(root).as_posix()
    if path.suffix.lower() in HDF5_SUFFIXES:
        dataset, indices = _sections(path, dataset)
    else:
        indices = pages_in(path)
    if len(indices) == 1:
        return [Page(path.stem, path, source, path.stem, None, indices[0], dataset)]
    digits = max(3, len(str(len(indices) - 1)))
    return [
        Page(f"{path.stem}-{number:0{digits}}", path, source, path.stem, number, index, dataset)
        for number, index in enumerate(indices)
    ]


def shorten(names: Sequence[str], most: int = 8) -> str:
    """Join names for a message, only the first ``most`` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _visible(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


def _pages_of_spec(spec: str) -> list[Page]:
    match = HDF5_SPEC.fullmatch(spec)
    path = Path(match["file"] if match else spec)
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a folder, an image file, or FILE.h5:dataset")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is not {_FORMATS}: convert it to one of these first")
    return pages_of(path, path.parent, match["dataset"] if match else None)


def _sections(path: Path, dataset: str | None) -> tuple[str, list[int]]:
    with readable(path), h5py.File(path, "r") as file:
        shapes: dict[str, tuple[int, ...]] = {}
        # The lambda has to return None: anything else ends the visit.
        file.visititems(
            lambda name, item: shapes.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
        )
        known = shorten([f"{name} {shape}" for name, shape in shapes.items()]) or "none"
        if dataset is None and len(shapes) == 1:
            dataset = next(iter(shapes))
        if dataset is None:
            raise UserError(f"{path}: name the dataset as {path.name}:NAME; the file has: {known}")
        shape = shapes.get(dataset.strip("/"))
        if shape is None:
            raise UserError(f"{path} has no dataset {dataset!r}; it has: {known}")
        if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[-1] <= 4):
            raise UserError(f"{path}:{dataset} is {shape}: only (Y, X) and a stack (Z, Y, X) of grey can be converted")
    return dataset, list(range(shape[0])) if len(shape) == 3 else [0]


def pair(images: Sequence[Page], labels: Sequence[Page]) -> list[Page]:
    """Find the label of every image.

    Files match by equal stems, pages of a stack by number. Where stems differ, what all images have in common at both
    ends is left away, and likewise for the labels: ``raw_01``, ``raw_02`` match ``01_mask``, ``02_mask``. One file of
    images matches one file of labels whatever their names.

    Returns:
        One label an image, in the order of the images.

    Raises:
        UserError: if an image has no label or a label no image, naming them.
    """
    by_key = {(page.stem, page.number): page for page in labels}
    partner = _match_stems({page.stem for page in images}, {page.stem for page in labels})
    found = [by_key.get((partner.get(page.stem, page.stem), page.number)) for page in images]
    alone = [page.what for page, label in zip(images, found, strict=True) if label is None]
    if alone:
        raise UserError(f"images without a label: {shorten(alone)}; labels are matched by file name and page")
    used = {id(label) for label in found}
    if unused := [page.what for page in labels if id(page) not in used]:
        raise UserError(f"labels without an image: {shorten(unused)}; labels are matched by file name and page")
    return [label for label in found if label is not None]


def _match_stems(images: set[str], labels: set[str]) -> dict[str, str]:
    if images == labels:
        return {}
    if len(images) == len(labels) == 1:
        return {images.pop(): labels.pop()}
    cores = {core: stem for stem, core in _without_affixes(labels).items()}
    stripped = _without_affixes(images)
    if len(cores) == len(labels) and sorted(cores) == sorted(stripped.values()):
        return {stem: cores[core] for stem, core in stripped.items()}
    return {}


def _without_affixes(stems: set[str]) -> dict[str, str]:
    """Cut off what all stems begin and end with, but never inside a number (``s10``, ``s11`` keep 10 and 11)."""
    before = len(_common_start(stems).rstrip("0123456789"))
    after = len(_common_start({stem[before:][::-1] for stem in stems}).rstrip("0123456789"))
    return {stem: stem[before : len(stem) - after] for stem in stems}


def _common_start(texts: set[str]) -> str:
    # What the first and the last in order share, all between them share too.
    first, last = min(texts), max(texts)
    same = (index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(same, min(len(first), len(last)))]
