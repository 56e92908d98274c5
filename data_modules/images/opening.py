"""One file a format: each opens a file as a :class:`~data_modules.images.image.Volume`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data_modules.images.hdf5 import open_hdf5
from data_modules.images.image import Guarded, Opened, RefusedError, Volume, refusing
from data_modules.images.mrc import open_mrc
from data_modules.images.nifti import open_nifti
from data_modules.images.raster import open_image
from data_modules.images.tiff import open_tiff
from data_modules.images.video import open_video
from data_modules.images.zarr import open_zarr
from data_modules.store.layout import is_url

Opener = Callable[[str], Opened]

OPENERS: Mapping[str, Opener] = {
    ".png": open_image,
    ".jpg": open_image,
    ".jpeg": open_image,
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".mrc": open_mrc,
    ".rec": open_mrc,
    ".st": open_mrc,
    ".nii": open_nifti,
    ".nii.gz": open_nifti,
    ".avi": open_video,
    ".mp4": open_video,
}
"""By the end of a file's name, in lower case."""
DATASETS = (".h5", ".hdf5", ".hdf")
"""Ends of files that hold several arrays."""


def suffix_of(name: str) -> str | None:
    """The known end of a file's name, ``None`` where there is none.

    >>> suffix_of("A.NII.GZ"), suffix_of("notes.md")
    ('.nii.gz', None)
    """
    return next((suffix for suffix in (*OPENERS, *DATASETS) if name.lower().endswith(suffix)), None)


@contextmanager
def open_volume(path: str, dataset: str | None = None) -> Iterator[Volume]:
    """Open whatever lies at a path.

    Args:
        path: Of a file, of the folder of a Zarr array or OME-Zarr image, or a URL of one.
        dataset: Inside an HDF5 file; may be left out where it holds one image only.

    Raises:
        RefusedError: if it cannot be read; reading from the volume raises the same.
    """
    what = path if dataset is None else f"{path}:{dataset}"
    # What the caller does with the pixels may fail too, and is no fault of the file: only opening is guarded here.
    with ExitStack() as stack:
        with refusing(what):
            volume = Guarded(stack.enter_context(_opened(path, dataset)), what)
        yield volume


def _opened(path: str, dataset: str | None) -> Opened:
    if is_url(path) or Path(path).is_dir():
        return open_zarr(path)
    if Path(path).stat().st_size == 0:
        raise RefusedError(f"{path} is empty (0 bytes): copy it again or remove it")
    suffix = suffix_of(path)
    if suffix in DATASETS:
        return open_hdf5(path, dataset)
    if suffix is None:
        raise RefusedError(f"{path} has no name of a format that is read ({', '.join((*OPENERS, *DATASETS))})")
    return OPENERS[suffix](path)
