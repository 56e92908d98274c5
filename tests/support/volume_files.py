"""Files of every format, written by the library of that format."""

import warnings
from pathlib import Path
from typing import Any

import av
import h5py
import mrcfile
import nibabel
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

Array = NDArray[Any]
WHOLE = (slice(0, 5), slice(0, 12), slice(0, 9))


def stack(dtype: Any, shape: tuple[int, ...] = (5, 12, 9)) -> Array:
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def write_tiff(path: Path, pixels: Array) -> Path:
    tifffile.imwrite(path / "a.tif", pixels, photometric="minisblack")
    return path / "a.tif"


def write_mrc(path: Path, pixels: Array) -> Path:
    with warnings.catch_warnings(), mrcfile.new(path / "a.mrc") as file:
        warnings.simplefilter("ignore")
        file.set_data(pixels)
        file.set_volume()
        file.voxel_size = 80.0
    return path / "a.mrc"


def write_nifti(path: Path, pixels: Array, name: str = "a.nii") -> Path:
    image = nibabel.Nifti1Image(pixels.transpose(2, 1, 0), np.diag([4e-6, 4e-6, 8e-6, 1.0]))
    image.header.set_xyzt_units("mm")
    image.set_data_dtype(pixels.dtype)
    nibabel.save(image, path / name)
    return path / name


def write_hdf5(path: Path, pixels: Array) -> Path:
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=pixels, chunks=(2, 4, 4)).attrs["resolution"] = (40, 4, 4)
    return path / "a.h5"


def write_zarr_3(path: Path, pixels: Array) -> Path:
    zarr.create_array(path / "a.zarr", data=pixels, chunks=(2, 5, 4))
    return path / "a.zarr"


def write_zarr_2(path: Path, pixels: Array) -> Path:
    zarr.create_array(path / "a.zarr", data=pixels, chunks=(2, 5, 4), zarr_format=2)
    return path / "a.zarr"


def write_video(path: Path, pixels: Array, codec: str, form: str) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=5)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], form
        for each in pixels:
            kind = "gray" if each.ndim == 2 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(each, format=kind).reformat(format=form)))
        container.mux(stream.encode())
