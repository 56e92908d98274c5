"""Pixel sizes are those that files state in physical units, and no others."""

from pathlib import Path

import mrcfile
import nibabel
import numpy as np
import pytest
import tifffile

from data_modules.images.opening import open_image
from tests.support.volume_files import stack, write_hdf5, write_mrc, write_nifti


def size_of(path: Path) -> tuple[float, ...] | None:
    with open_image(str(path)) as volume:
        return volume.pixel_size_nm


def test_pixel_sizes_are_taken_from_the_file(tmp_path: Path) -> None:
    pixels = stack(np.int16)
    assert size_of(write_mrc(tmp_path, pixels)) == pytest.approx((8, 8, 8))
    assert size_of(write_nifti(tmp_path, pixels)) == pytest.approx((8, 4, 4))
    assert size_of(write_hdf5(tmp_path, pixels)) == pytest.approx((40, 4, 4))
    sizes = {"PhysicalSizeX": 4.0, "PhysicalSizeY": 5.0, "PhysicalSizeZ": 0.03}
    units = {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "b.ome.tif", pixels, metadata={"axes": "ZYX", **sizes, **units})
    assert size_of(tmp_path / "b.ome.tif") == pytest.approx((30, 5, 4))
    tifffile.imwrite(tmp_path / "c.tif", pixels[0], resolution=(2.5e6, 2.5e6), resolutionunit="CENTIMETER")
    assert size_of(tmp_path / "c.tif") == pytest.approx((4, 4))


def test_printer_resolutions_are_no_pixel_sizes(tmp_path: Path) -> None:
    pixels = stack(np.int16)
    tifffile.imwrite(tmp_path / "a.tif", pixels[0], resolution=(300, 300), resolutionunit="INCH")
    assert size_of(tmp_path / "a.tif") is None
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(pixels)
        file.set_volume()
        file.voxel_size = 1.0
    assert size_of(tmp_path / "a.mrc") is None
    nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), tmp_path / "a.nii")
    assert size_of(tmp_path / "a.nii") is None


def test_mrc_image_stacks_have_no_z_size(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(stack(np.int16))
        file.set_image_stack()
        file.voxel_size = 40.0
    assert size_of(tmp_path / "a.mrc") == pytest.approx((4, 4))
