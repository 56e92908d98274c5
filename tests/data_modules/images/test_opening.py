"""What each format's own library writes is read back equal, with the pixel size that it states."""

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_image
from PIL import Image

from data_modules.images.opening import open_image
from tests.support.volume_files import (
    WHOLE,
    Array,
    stack,
    write_hdf5,
    write_mrc,
    write_nifti,
    write_tiff,
    write_video,
    write_zarr_2,
    write_zarr_3,
)


@pytest.mark.parametrize(
    ("write", "types"),
    [
        (write_tiff, "u1 i1 u2 i2 u4 f4 f8"),
        (write_mrc, "i1 i2 u2 f4"),
        (write_nifti, "u1 i1 u2 i2 i4 f4 f8"),
        (write_hdf5, "u1 i1 u2 >i2 f4 f8"),
        (write_zarr_3, "u1 i2 u2 f4"),
        (write_zarr_2, "u1 >i2 u2 f4"),
    ],
)
def test_stacks_of_every_type_come_back(tmp_path: Path, write: Callable[[Path, Array], Path], types: str) -> None:
    for number, dtype in enumerate(types.split()):
        (folder := tmp_path / str(number)).mkdir()
        pixels = stack(np.dtype(dtype).newbyteorder("=")).astype(dtype)
        with open_image(str(write(folder, pixels))) as volume:
            assert volume.shape == (5, 12, 9)
            assert volume.dtype == np.dtype(dtype).newbyteorder("=")
            np.testing.assert_array_equal(volume.read(WHOLE), pixels)
            part = (slice(3, 5), slice(2, 7), slice(1, 2))
            np.testing.assert_array_equal(volume.read(part), pixels[part])
            # Back to where it has been.
            np.testing.assert_array_equal(volume.read((slice(0, 1), *part[1:])), pixels[0:1, 2:7, 1:2])


def test_images_come_back(tmp_path: Path) -> None:
    pixels = stack(np.uint8, (12, 9))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(stack(np.uint16, (12, 9))).save(tmp_path / "b.PNG")
    Image.fromarray(np.full((12, 9), 77, np.uint8)).save(tmp_path / "c.jpeg")
    tifffile.imwrite(tmp_path / "d.tiff", pixels)
    for name, expected in (("a.png", pixels), ("b.PNG", stack(np.uint16, (12, 9))), ("d.tiff", pixels)):
        with open_image(str(tmp_path / name)) as volume:
            assert volume.shape == (1, 12, 9)
            np.testing.assert_array_equal(volume.read((slice(0, 1), slice(2, 12), slice(0, 5)))[0], expected[2:, :5])
    with open_image(str(tmp_path / "c.jpeg")) as volume:
        assert (volume.read((slice(0, 1), *WHOLE[1:])) == 77).all()


@pytest.mark.parametrize("codec", ["ffv1", "rawvideo"])
def test_lossless_videos_come_back(tmp_path: Path, codec: str) -> None:
    pixels = stack(np.uint8, (5, 12, 16))
    write_video(tmp_path / "a.avi", pixels, codec, "gray")
    with open_image(str(tmp_path / "a.avi")) as volume:
        assert volume.shape == (5, 12, 16)
        assert volume.frames
        np.testing.assert_array_equal(volume.read((slice(0, 5), slice(0, 12), slice(0, 16))), pixels)
        np.testing.assert_array_equal(volume.read((slice(1, 3), slice(0, 12), slice(4, 16))), pixels[1:3, :, 4:])


def test_coded_videos_come_back_nearly(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (5, 48, 64))
    write_video(tmp_path / "a.mp4", np.ascontiguousarray(ramp), "mpeg4", "yuv420p")
    with open_image(str(tmp_path / "a.mp4")) as volume:
        read = volume.read((slice(0, 5), slice(0, 48), slice(0, 64)))
        assert np.abs(read.astype(int) - ramp).mean() < 4


def test_compressed_nifti_comes_back(tmp_path: Path) -> None:
    pixels = stack(np.int16)
    with open_image(str(write_nifti(tmp_path, pixels, "a.nii.gz"))) as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), pixels)


def test_imagej_stacks_of_one_page_come_back(tmp_path: Path) -> None:
    pixels = stack(np.uint16)
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": 8.0}
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, resolution=(1 / 4, 1 / 5), metadata=metadata)
    with open_image(str(tmp_path / "a.tif")) as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), pixels)
        assert volume.pixel_size_nm == pytest.approx((8, 5, 4))
    content = (tmp_path / "a.tif").read_bytes()
    # As ImageJ writes what is above 4 GB: one page, and the pixels of the others behind it.
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        following = tif.pages[0].offset + 2 + 12 * len(tif.pages[0].tags)
        start = tif.pages[0].dataoffsets[0]
    order = ">u2" if content[:2] == b"MM" else "<u2"
    assert content[start : start + 1080] == pixels.astype(order).tobytes()
    (tmp_path / "b.tif").write_bytes(content[:following] + bytes(4) + content[following + 4 :])
    with open_image(str(tmp_path / "b.tif")) as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), pixels)


def test_unsigned_bytes_of_imod_are_unsigned(tmp_path: Path) -> None:
    path = write_mrc(tmp_path, stack(np.int8))
    content = bytearray(path.read_bytes())
    for flags, dtype in ((0, np.uint8), (1, np.int8)):
        content[152:160] = np.asarray([1146047817, flags], "<i4").tobytes()
        path.write_bytes(content)
        with open_image(str(path)) as volume:
            assert volume.dtype == dtype
            np.testing.assert_array_equal(volume.read(WHOLE), stack(np.int8).view(dtype))


def test_scaled_nifti_has_scaled_values(tmp_path: Path) -> None:
    path = write_nifti(tmp_path, stack(np.int16))
    image = nibabel.load(path)
    header = image.header.copy()
    header.set_slope_inter(0.5, 3)
    written = nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.5 + 3, image.affine, header)
    nibabel.save(written, tmp_path / "b.nii")
    with open_image(str(tmp_path / "b.nii")) as volume:
        expected = np.asarray(nibabel.load(tmp_path / "b.nii").dataobj).transpose(2, 1, 0)
        np.testing.assert_allclose(volume.read(WHOLE), expected)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_comes_back_with_its_scale(tmp_path: Path, version: str) -> None:
    pixels = stack(np.uint16, (1, 5, 12, 9))
    scale = {"c": 1.0, "z": 0.03, "y": 0.004, "x": 0.005}
    units = dict.fromkeys("zyx", "micrometer")
    form = FormatV04() if version == "0.4" else FormatV05()
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_image(pixels, group, [], axes="czyx", fmt=form, scale=scale, axes_units=units)
    with open_image(str(tmp_path / "a.zarr")) as volume:
        assert volume.pixel_size_nm == pytest.approx((30, 4, 5))
        np.testing.assert_array_equal(volume.read(WHOLE), pixels[0])


def test_arrays_of_tensorstore_come_back(tmp_path: Path) -> None:
    pixels = stack(np.uint8)
    spec = {"driver": "zarr3", "kvstore": f"file://{tmp_path}/a.zarr/", "dtype": "uint8"}
    tensorstore.open(spec, create=True, shape=pixels.shape).result()[...] = pixels
    with open_image(str(tmp_path / "a.zarr")) as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), pixels)
