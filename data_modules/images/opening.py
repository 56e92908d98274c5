"""The one way to open an image: by the end of its name, whatever its format."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from data_modules.images.hdf5 import open_hdf5
from data_modules.images.image import HDF5_SUFFIXES, Image, Opened, RefusedError, refusing
from data_modules.images.mrc import open_mrc
from data_modules.images.nifti import open_nifti
from data_modules.images.raster import open_raster
from data_modules.images.tiff import TIFF_SUFFIXES, open_tiff
from data_modules.images.video import open_video
from data_modules.images.zarr import open_zarr
from data_modules.store.layout import is_url

OPENERS: Mapping[str, Callable[[str], Opened]] = {
    ".png": open_raster,
    ".jpg": open_raster,
    ".jpeg": open_raster,
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".mrc": open_mrc,
    ".rec": open_mrc,
    ".st": open_mrc,
    ".nii": open_nifti,
    ".nii.gz": open_nifti,
    ".avi": open_video,
    ".mp4": open_video,
    **dict.fromkeys(HDF5_SUFFIXES, open_hdf5),
}
"""By the end of a file's name, in lower case; a new format is a file of this room and a line here."""
PAGED = tuple(suffix for suffix, opener in OPENERS.items() if opener is not open_video)
"""Ends of files whose sections may become samples; frames of a video follow one another in time."""


def suffix_of(name: str) -> str | None:
    """The known end of a file's name, ``None`` where there is none.

    >>> suffix_of("A.NII.GZ"), suffix_of("notes.md")
    ('.nii.gz', None)
    """
    return next((suffix for suffix in OPENERS if name.lower().endswith(suffix)), None)


@contextmanager
def open_image(
    path: str, dataset: str | None = None, page: int | None = None, as_values: bool = False
) -> Iterator[Image]:
    """Open whatever lies at a path.

    Args:
        path: A file, the folder of a Zarr array or OME-Zarr image, or a URL of one.
        dataset: Name inside an HDF5 file; may be left out where the file holds one image only.
        page: Index of the one page or section that is wanted, whose pixel size is not looked for; all by default.
        as_values: Whether values are class numbers or ids rather than grey: palettes of PNG and TIFF then give their
            indices, and white-is-zero TIFFs are not inverted.

    Raises:
        RefusedError: if it cannot be read; reading from the image raises the same.
    """
    what = path if dataset is None else f"{path}:{dataset}"
    # What the caller does with the pixels may fail too, and is no fault of the file: only opening is guarded here.
    with ExitStack() as stack:
        with refusing(what):
            image = replace(stack.enter_context(_opened(path, dataset, page, as_values)), what=what)
            if page is not None and image.shape[0] > 1:
                # Openers of TIFF and HDF5 read one page alone, which is faster; the others show all.
                image = replace(image.crop(page, page + 1), pixel_size_nm=None)
        yield image


def _opened(path: str, dataset: str | None, page: int | None, as_values: bool) -> Opened:
    if is_url(path) or Path(path).is_dir():
        return open_zarr(path)
    if Path(path).stat().st_size == 0:
        raise RefusedError(f"{path} is empty (0 bytes): copy it again or remove it")
    suffix = suffix_of(path)
    if suffix is None:
        raise RefusedError(f"{path} has no name of a format that is read ({', '.join(OPENERS)})")
    if suffix in HDF5_SUFFIXES:
        return open_hdf5(path, dataset, page)
    if suffix in TIFF_SUFFIXES:
        return open_tiff(path, page, as_values)
    return open_raster(path, as_values) if OPENERS[suffix] is open_raster else OPENERS[suffix](path)
