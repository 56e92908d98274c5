"""Pages of folders, files, stacks and HDF5 datasets, and the matching of images with labels by name."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile

from data_modules.errors import UserError, shorten
from data_modules.images.hdf5 import section_shape, sections_in
from data_modules.images.image import HDF5_SUFFIXES, Image, Pixels, Region, refusing, split_dataset, to_bytes
from data_modules.images.opening import OPENERS, PAGED, open_image, suffix_of
from data_modules.images.raster import open_raster, raster_shape
from data_modules.images.tiff import TIFF_SUFFIXES, is_block, page_shape, pages_in

_FORMATS = "PNG, JPEG, TIFF, HDF5 (FILE.h5:dataset), MRC or NIfTI"


@dataclass(frozen=True)
class Page:
    """One 2D image inside a file; nothing is read before :meth:`read`.

    Attributes:
        name: Name of the sample: the file's stem, with ``-000``, ``-001``, … where the file holds several.
        path: Path of the file.
        source: File as the provenance names it: relative to what the user gave, so no path of a machine is stored.
        stem: Stem of the file's name.
        number: Position in a file of several pages; ``None`` where it holds one.
        index: Page of a TIFF, or section of a file of another format.
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

    @contextmanager
    def open(self, as_values: bool = False) -> Iterator[Image]:
        """Open the page as an image of one section.

        Args:
            as_values: Whether pixels are class numbers or ids rather than grey.

        Raises:
            RefusedError: if the file is damaged, coloured or transparent.
        """
        with open_image(str(self.path), self.dataset, self.index, as_values) as image:
            yield replace(image, what=self.what, record={**self.record, "reading": list(image.remarks)})

    def read(self, as_values: bool = False) -> Pixels:
        """Read the pixels ``(Y, X)``; see :meth:`open`."""
        with self.open(as_values) as image:
            return next(image.sections())

    def shape(self) -> tuple[int, int]:
        """Height and width in px, from the header alone."""
        with refusing(self.path):
            if self.dataset is not None:
                return section_shape(self.path, self.dataset)
            suffix = suffix_of(self.path.name) or ""
            if suffix in TIFF_SUFFIXES:
                return page_shape(self.path, self.index)
            if OPENERS[suffix] is open_raster:
                return raster_shape(self.path)
            with open_image(str(self.path)) as image:
                return image.shape[1:]


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
        spec: A folder (its files in natural order, no subfolders), a PNG, JPEG, TIFF, MRC or NIfTI file, or
            ``FILE.h5:dataset`` (2D, or 3D as a stack of sections; the dataset may be left out where the file holds
            one only). Every section is a page.

    Returns:
        At least one page; names are unique.

    Raises:
        UserError: if there is nothing to read, two files would get one sample name, or a file is damaged.
    """
    path = Path(spec)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if _visible(file)), key=lambda file: natural_key(file.name))
        pages = [page for file in files if _is_paged(file) for page in pages_of(file, path)]
        if skipped := [file.name for file in files if not _is_paged(file)]:
            warnings.warn(f"{path}: not read, since not {_FORMATS}: {shorten(skipped)}", stacklevel=2)
    else:
        name, dataset = split_dataset(spec)
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{path} does not exist: give a folder, an image file, or FILE.h5:dataset")
        if not _is_paged(path):
            raise UserError(f"{path} is not {_FORMATS}: convert it to one of these first")
        pages = pages_of(path, path.parent, dataset)
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
        folder: Folder to search.
        root: Folder relative to which the provenance names files.
    """
    files = [file for file in folder.rglob("*") if _visible(file) and _is_paged(file)]
    files.sort(key=lambda file: natural_key(file.relative_to(folder).as_posix()))
    return [page for file in files for page in pages_of(file, root)]


def pages_of(path: Path, root: Path, dataset: str | None = None) -> list[Page]:
    """List the pages of one file.

    Args:
        path: Path of the file.
        root: Folder relative to which the provenance names the file.
        dataset: Inside an HDF5 file; may be left out where it holds one only.

    Raises:
        UserError: if the file is damaged or the dataset is neither 2D nor 3D.
    """
    suffix = suffix_of(path.name) or ""
    source, stem, indices = path.relative_to(root).as_posix(), path.name[: -len(suffix)], [0]
    with refusing(path):
        if suffix in HDF5_SUFFIXES:
            dataset, indices = sections_in(path, dataset)
        elif suffix in TIFF_SUFFIXES:
            indices = pages_in(path)
        elif OPENERS[suffix] is not open_raster:
            with open_image(str(path)) as image:
                indices = list(range(image.shape[0]))
    if len(indices) == 1:
        return [Page(stem, path, source, stem, None, indices[0], dataset)]
    digits = max(3, len(str(len(indices) - 1)))
    return [
        Page(f"{stem}-{number:0{digits}}", path, source, stem, number, index, dataset)
        for number, index in enumerate(indices)
    ]


def _is_paged(file: Path) -> bool:
    return suffix_of(file.name) in PAGED


def _visible(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


@contextmanager
def open_stack(spec: str, as_values: bool = False) -> Iterator[Image]:
    """Open a folder of sections, a stack in one file, or a dataset of an HDF5 file; 1-bit pixels become bytes.

    Args:
        spec: A folder of images (in natural order of their names, each page a section), a TIFF, NIfTI or MRC file, or
            ``FILE.h5:dataset`` (the dataset may be left out where the file holds one only).
        as_values: Whether pixels are class numbers or ids rather than grey, so that palettes give their indices.

    Raises:
        UserError: if there is nothing to read, it cannot be read, or sections differ in size or type.
    """
    name, dataset = split_dataset(spec)
    path = Path(name)
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder of sections, a TIFF or NIfTI file, or FILE.h5:dataset")
    by_pages = path.is_dir()
    if as_values and not by_pages and path.suffix.lower() in TIFF_SUFFIXES:
        with refusing(path), tifffile.TiffFile(path) as tif:
            by_pages = not (is_block(tif) and tif.is_imagej)
    if by_pages:
        yield stack_pages(find_images(spec), path, as_values)
        return
    with open_image(str(path), dataset) as image:
        named = {} if dataset is None else {"dataset": dataset}
        size = image.pixel_size_nm if len(image.pixel_size_nm or ()) == 3 else None
        record = {"source": path.name, "reading": list(image.remarks), **named}
        dtype = np.dtype(np.uint8) if image.dtype == bool else image.dtype
        white, read = 1 if as_values else 255, image.read

        def fetch(region: Region) -> Pixels:
            return to_bytes(read(region), white)

        yield replace(image, what=spec, record=record, pixel_size_nm=size, dtype=dtype, fetch=fetch)


def stack_pages(
    pages: Sequence[Page], place: Path, as_values: bool = False, read: Callable[[Page], Pixels] | None = None
) -> Image:
    """Put pages together as the sections of one image; 1-bit pages become 0 and 255, as values 0 and 1.

    Args:
        pages: Pages in order, at least one.
        place: Their folder or file.
        as_values: Whether pixels are class numbers or ids, see :func:`open_stack`.
        read: Decoder of one page to ``(Y, X)``, never of ``bool``; :meth:`Page.read` by default.

    Raises:
        UserError: if their sizes differ; reading raises it if their types do.
    """
    shape = pages[0].shape()
    for page in pages:
        if page.shape() != shape:
            raise UserError(
                f"{page.what} is {page.shape()} px but {pages[0].what} is {shape}: sections of a volume are of one size"
            )

    def read_bytes(page: Page) -> Pixels:
        return to_bytes(page.read(as_values), 1 if as_values else 255)

    read = read or read_bytes
    dtype = read(pages[0]).dtype

    def fetch(region: Region) -> Pixels:
        sections = []
        for page in pages[region[0]]:
            pixels = read(page)
            if pixels.dtype != dtype:
                raise UserError(f"{page.what} is {pixels.dtype} but {pages[0].what} is {dtype}: save them as one type")
            sections.append(pixels[region[1:]])
        return np.stack(sections)

    record = {"source": place.name, "first": pages[0].source, "last": pages[-1].source, "sections": len(pages)}
    return Image(str(place), "sections", (len(pages), *shape), dtype, fetch, record=record)


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
