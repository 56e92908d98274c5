"""HDF5 files: one dataset of one section or a stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_modules.errors import shorten
from data_modules.images.image import Image, RefusedError, in_nm, last_axes_are_colours, stored_array


@contextmanager
def open_hdf5(path: str, dataset: str | None = None, section: int | None = None) -> Iterator[Image]:
    """Open a dataset; its pixel size is the attribute ``resolution`` (Z, Y, X in nm, as CREMI has it).

    Args:
        path: The file.
        dataset: Its name; may be left out where the file holds one image or volume only.
        section: The one section that is wanted, of a dataset that :func:`sections_in` takes; all by default.

    Raises:
        RefusedError: if there is none, or several and no name.
        OSError: if the file is damaged.
    """
    with h5py.File(path, "r") as file:
        if section is not None:
            stored = file[dataset]
            pixels = np.asarray(stored[section] if stored.ndim == 3 else stored[()])
            yield stored_array(path, "HDF5", pixels, pixels.dtype)
            return
        stored = file[_choose(file, path, dataset)]
        depth = stored.shape[0] if stored.ndim == 3 else 1
        stated = [float(value) for value in np.ravel(stored.attrs.get("resolution", ()))]
        size = in_nm(stated, ["nm"] * len(stated)) if len(stated) in (2, 3) else None
        size = size[-2:] if size is not None and depth == 1 else size
        together = stored.chunks[0] if stored.chunks is not None and stored.ndim == 3 else 1
        yield stored_array(path, "HDF5", stored, stored.dtype, pixel_size_nm=size, depth=together)


def _choose(file: Any, path: str, dataset: str | None) -> str:
    """Name of the dataset of one section or a stack; it may be left out where the file has no other such.

    Raises:
        RefusedError: if there is none, several and no name, or it looks like colours.
    """
    every: dict[str, Any] = {}
    # The lambda has to return None: anything else ends the visit.
    file.visititems(lambda name, item: every.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    images = [
        name for name, item in every.items() if item.ndim in (2, 3) and item.dtype.kind in "biuf" and item.size > 0
    ]
    known = shorten([f"{name} {item.shape}" for name, item in every.items()]) or "none"
    if dataset is None:
        if len(images) > 1:
            raise RefusedError(f"{path} holds several images: name one, as {path}:NAME; there are: {known}")
        if not images:
            raise RefusedError(f"{path} has no image (Y, X) or (Z, Y, X); it has: {known}")
        dataset = images[0]
    elif dataset.strip("/") not in images:
        raise RefusedError(f"{path} has no dataset {dataset!r} of grey (Y, X) or (Z, Y, X); it has: {known}")
    if last_axes_are_colours(shape := file[dataset].shape):
        raise RefusedError(f"{path}:{dataset} is {shape}, like colours: save (Y, X) or (Z, Y, X) of grey")
    return dataset


def sections_in(path: Path, dataset: str | None) -> tuple[str, list[int]]:
    """Name of a dataset, as :func:`open_hdf5` finds it, and indices of its sections.

    Raises:
        RefusedError: if there is none, or it is neither 2D nor a stack of grey.
    """
    with h5py.File(path, "r") as file:
        dataset = _choose(file, str(path), dataset)
        shape = file[dataset].shape
    return dataset, list(range(shape[0])) if len(shape) == 3 else [0]


def section_shape(path: Path, dataset: str) -> tuple[int, int]:
    """Height and width of a dataset's sections in px, from the header alone."""
    with h5py.File(path, "r") as file:
        height, width = file[dataset].shape[-2:]
    return int(height), int(width)
