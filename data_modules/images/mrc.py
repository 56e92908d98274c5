"""MRC files, mapped into memory."""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mrcfile
import numpy as np

from data_modules.images.image import Image, RefusedError, in_nm, stored_array

_IMOD_STAMP = 1146047817
_AT_IMOD = 40
"""Of IMOD's stamp and flags in the second extra part of the header (byte 152 of the file)."""
_SIGNED = 1
"""Bit of IMOD's flags: bytes are signed, as MRC2014 has it."""


@contextmanager
def open_mrc(path: str) -> Iterator[Image]:
    """Open an MRC file.

    Bytes are signed (MRC2014), unless IMOD wrote them and says otherwise. A pixel size of 1 Å on every axis is what
    software writes that knows none, and counts as unknown; so does Z of a stack of images (space group 0 with
    ``mz`` 1).

    Raises:
        UserError: if it holds several volumes or complex numbers.
        ValueError: if it is damaged or truncated.
    """
    with mrcfile.mmap(path, mode="r") as file:
        data = file.data
        if data.ndim not in (2, 3) or data.dtype.kind == "c":
            raise RefusedError(f"{path} holds {data.dtype} {data.shape}: save one volume (Z, Y, X) of grey values")
        pixels, remarks = data.reshape((-1, *data.shape[-2:])), []
        if pixels.dtype == np.int8 and _bytes_are_unsigned(file.header):
            pixels, remarks = pixels.view(np.uint8), ["bytes are unsigned by IMOD's flag"]
        size = _pixel_size(file.header, pixels.shape[0])
        if size is not None and all(math.isclose(side, 0.1, rel_tol=1e-4) for side in size):
            size, remarks = None, [*remarks, "pixel size of 1 Å taken for unknown"]
        header = {"pixel_size_nm": size, "scattered": True, "remarks": tuple(remarks)}
        yield stored_array(path, "MRC", pixels, pixels.dtype, **header)


def _bytes_are_unsigned(header: Any) -> bool:
    extra = header.extra2.tobytes()
    order = "<" if header.machst[0] == 0x44 else ">"
    stamp, flags = struct.unpack_from(f"{order}ii", extra, _AT_IMOD)
    return bool(stamp == _IMOD_STAMP and not flags & _SIGNED)


def _pixel_size(header: Any, sections: int) -> tuple[float, ...] | None:
    axes = ["y", "x"] if sections == 1 or (int(header.mz) <= 1 and int(header.ispg) == 0) else ["z", "y", "x"]
    if any(int(header[f"m{axis}"]) < 1 for axis in axes):
        return None
    return in_nm([float(header.cella[axis]) / int(header[f"m{axis}"]) for axis in axes], ["angstrom"] * len(axes))
