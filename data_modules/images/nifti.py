"""NIfTI files, also compressed ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nibabel
import numpy as np

from data_modules.images.image import Image, Pixels, RefusedError, Region, in_nm

_UNITS = {"meter": "meter", "mm": "mm", "micron": "micron"}
"""Of NIfTI; it has none below a micrometre, so that nanometres come as fractions of one of these."""


@contextmanager
def open_nifti(path: str) -> Iterator[Image]:
    """Open a NIfTI file; its scaling (``scl_slope``, ``scl_inter``) is applied where there is one.

    Raises:
        UserError: if it holds several channels or times.
        nibabel.filebasedimages.ImageFileError: if it is none.
    """
    # A compressed file that is opened anew for each section would be unpacked from its start each time.
    image: Any = nibabel.Nifti1Image.from_filename(path, keep_file_open=True)
    shape = image.shape
    if len(shape) < 2 or any(side != 1 for side in shape[3:]):
        raise RefusedError(f"{path} holds {shape} (X, Y, Z, time, …): save one channel and time as a file of its own")
    x, y, z = (*shape, 1)[:3]
    stored = image.dataobj
    scaled = (stored.slope, stored.inter) != (1, 0)
    dtype = np.asarray(stored[(slice(0, 1),) * len(shape)]).dtype
    unit = _UNITS.get(image.header.get_xyzt_units()[0])
    zooms = [float(side) for side in image.header.get_zooms()[:3]][::-1]
    size = in_nm(zooms[-2:] if z == 1 else zooms, [unit] * (2 if z == 1 else 3))
    remarks = (f"values scaled by {stored.slope} and shifted by {stored.inter}",) if scaled else ()
    native, ndim = dtype.newbyteorder("="), len(shape)

    def fetch(region: Region) -> Pixels:
        # The file has X first and fastest.
        place = (*region[::-1], *(0,) * (ndim - 3)) if ndim > 2 else region[:0:-1]
        size = [part.stop - part.start for part in region]
        return np.asarray(stored[place]).T.reshape(size).astype(native, copy=False)

    yield Image(path, "NIfTI", (z, y, x), native, fetch, size, remarks=remarks)
