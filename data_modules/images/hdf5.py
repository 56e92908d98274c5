"""HDF5 files: one dataset of one section or a stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from data_modules.images.image import Header, Pixels, RefusedError, Region, Volume, in_nm, last_axes_are_colours
from data_modules.images.pages import shorten


@dataclass(frozen=True)
class Dataset:
    """A dataset of an open file."""

    header: Header
    stored: Any

    def read(self, region: Region) -> Pixels:
        """See :class:`~data_modules.images.image.Volume`."""
        if self.stored.ndim == 2:
            return np.asarray(self.stored[region[1:]])[None].astype(self.header.dtype, copy=False)
        return np.asarray(self.stored[region]).astype(self.header.dtype, copy=False)


@contextmanager
def open_hdf5(path: str, dataset: str | None = None) -> Iterator[Volume]:
    """Open a dataset; its pixel size is the attribute ``resolution`` (Z, Y, X in nm, as CREMI has it).

    Args:
        path: Of the file.
        dataset: Its name; may be left out where the file holds one image or volume only.

    Raises:
        UserError: if there is none, or several and no name.
        OSError: if the file is damaged.
    """
    with h5py.File(path, "r") as file:
        stored = file[_choose(file, path, dataset)]
        shape = stored.shape if stored.ndim == 3 else (1, *stored.shape)
        if last_axes_are_colours(stored.shape):
            raise RefusedError(f"{path}:{stored.name} is {shape}, like colours: save (Y, X) or (Z, Y, X) of grey")
        stated = [float(value) for value in np.ravel(stored.attrs.get("resolution", ()))]
        size = in_nm(stated, ["nm"] * len(stated)) if len(stated) in (2, 3) else None
        size = size[-2:] if size is not None and shape[0] == 1 else size
        depth = stored.chunks[0] if stored.chunks is not None and stored.ndim == 3 else 1
        yield Dataset(Header("HDF5", shape, stored.dtype.newbyteorder("="), size, depth), stored)


def _choose(file: Any, path: str, dataset: str | None) -> str:
    found: dict[str, tuple[int, ...]] = {}
    # The lambda has to return None: anything else ends the visit.
    file.visititems(lambda name, item: found.update({name: item.shape}) if _is_image(item) else None)
    known = shorten([f"{name} {shape}" for name, shape in found.items()]) or "none"
    if dataset is not None and dataset.strip("/") in found:
        return dataset
    if dataset is None and len(found) == 1:
        return next(iter(found))
    if dataset is None and found:
        raise RefusedError(f"{path} holds several images: give one as {path}:NAME, or in --sources; there are: {known}")
    raise RefusedError(f"{path} has no image (Y, X) or (Z, Y, X) {dataset or ''}: it has {known}")


def _is_image(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim in (2, 3) and item.dtype.kind in "biuf" and item.size > 0
