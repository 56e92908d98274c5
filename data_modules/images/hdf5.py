"""HDF5 files: one dataset of one section or a stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_modules.errors import UserError, shorten
from data_modules.images.image import Image, RefusedError, in_nm, last_axes_are_colours, stored_array

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
"""Ends of files that hold several arrays."""


@contextmanager
def open_hdf5(path: str, dataset: str | None = None, section: int | None = None) -> Iterator[Image]:
    """Open a dataset; its pixel size is the attribute ``resolution`` (Z, Y, X in nm, as CREMI has it).

    Args:
        path: The file.
        dataset: Its name; may be left out where the file holds one image or volume only.
        section: The one section that is wanted, of a dataset that :func:`sections_in` takes; all by default.

    Raises:
        UserError: if there is none, or several and no name.
        OSError: if the file is damaged.
    """
    with h5py.File(path, "r") as file:
        if section is not None:
            stored = file[dataset]
            pixels = np.asarray(stored[section] if stored.ndim == 3 else stored[()])
            yield stored_array(path, "HDF5", pixels, pixels.dtype)
            return
        stored = file[_choose(file, path, dataset)]
        depth, *_ = shape = stored.shape if stored.ndim == 3 else (1, *stored.shape)
        if last_axes_are_colours(stored.shape):
            raise RefusedError(f"{path}:{stored.name} is {shape}, like colours: save (Y, X) or (Z, Y, X) of grey")
        stated = [float(value) for value in np.ravel(stored.attrs.get("resolution", ()))]
        size = in_nm(stated, ["nm"] * len(stated)) if len(stated) in (2, 3) else None
        size = size[-2:] if size is not None and depth == 1 else size
        together = stored.chunks[0] if stored.chunks is not None and stored.ndim == 3 else 1
        yield stored_array(path, "HDF5", stored, stored.dtype, pixel_size_nm=size, depth=together)


def _choose(file: Any, path: str, dataset: str | None) -> str:
    found = {
        name: item.shape
        for name, item in _datasets(file).items()
        if item.ndim in (2, 3) and item.dtype.kind in "biuf" and item.size > 0
    }
    known = shorten([f"{name} {shape}" for name, shape in found.items()]) or "none"
    if dataset is not None and dataset.strip("/") in found:
        return dataset
    if dataset is None and len(found) == 1:
        return next(iter(found))
    if dataset is None and found:
        raise RefusedError(f"{path} holds several images: name one, as {path}:NAME; there are: {known}")
    raise RefusedError(f"{path} has no image (Y, X) or (Z, Y, X) {dataset or ''}: it has {known}")


def _datasets(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # The lambda has to return None: anything else ends the visit.
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return found


def sections_in(path: Path, dataset: str | None) -> tuple[str, list[int]]:
    """Name of a dataset, which may be left out where the file holds one only, and indices of its sections.

    Raises:
        UserError: if there is none, or it is neither 2D nor a stack.
    """
    with h5py.File(path, "r") as file:
        shapes = {name: item.shape for name, item in _datasets(file).items()}
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


def section_shape(path: Path, dataset: str) -> tuple[int, int]:
    """Height and width of a dataset's sections in px, from the header alone."""
    with h5py.File(path, "r") as file:
        height, width = file[dataset].shape[-2:]
    return int(height), int(width)
