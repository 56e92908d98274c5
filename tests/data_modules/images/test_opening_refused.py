"""What cannot be read as one grey volume is refused, with its name and the reason."""

from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from data_modules.images.image import RefusedError
from data_modules.images.opening import open_image
from tests.support.volume_files import WHOLE, Array, stack, write_hdf5, write_mrc, write_nifti, write_tiff, write_video


@pytest.mark.parametrize("write", [write_tiff, write_mrc, write_nifti, write_hdf5])
def test_truncated_files_are_refused_by_name(tmp_path: Path, write: Callable[[Path, Array], Path]) -> None:
    path = write(tmp_path, stack(np.int16, (5, 40, 40)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(RefusedError, match=path.name), open_image(str(path)) as volume:
        volume.read((slice(0, 5), slice(0, 40), slice(0, 40)))


def test_colour_mixed_sizes_and_many_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(stack(np.uint8, (12, 9, 3))).save(tmp_path / "a.png")
    write_video(tmp_path / "b.avi", stack(np.uint8, (3, 12, 16, 3)), "ffv1", "bgr0")
    with tifffile.TiffWriter(tmp_path / "c.tif") as tif:
        tif.write(stack(np.uint8, (12, 9)), photometric="minisblack")
        tif.write(stack(np.uint16, (12, 9)), photometric="minisblack")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"], file["y"] = stack(np.uint8), stack(np.uint8)
    zarr.create_array(tmp_path / "e.zarr", data=stack(np.uint8, (2, 3, 12, 9)))
    zarr.create_array(tmp_path / "f.zarr", data=stack(np.uint8, (12, 9, 3)))
    with mrcfile.new(tmp_path / "g.mrc") as mrc:
        mrc.set_data(stack(np.float32).astype(np.complex64))
    whole = (slice(0, 2), slice(0, 12), slice(0, 9))
    reasons = {
        "a.png": "real colour", "b.avi": "real colour", "c.tif": "mixes", "d.h5": r"several images.*x \(5, 12, 9\)",
        "e.zarr": "only", "f.zarr": "only", "g.mrc": "complex64",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(RefusedError, match=reason), open_image(str(tmp_path / name)) as volume:
            volume.read(whole)
    with open_image(str(tmp_path / "d.h5"), "y") as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), stack(np.uint8))


def test_truncated_videos_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", stack(np.uint8, (9, 48, 64)), "ffv1", "gray")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(content[: len(content) // 2])
    with pytest.raises(RefusedError, match=r"b\.avi"), open_image(str(tmp_path / "b.avi")):
        pass


def test_errors_of_the_caller_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_image(str(write_tiff(tmp_path, stack(np.uint8)))):
        raise KeyError("mine")
