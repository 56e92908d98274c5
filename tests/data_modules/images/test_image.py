"""Units, axes and voxel sizes of images."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from data_modules.convert.folder import convert_volume
from data_modules.errors import UserError
from data_modules.images.image import doubtful_axes, parse_pixel_size
from tests.support.convert_checks import pixel_size, stored

CREMI, PADDED = (125, 1250, 1250), (200, 3072, 3072)
Order = tuple[int, int, int]
ORDERS: list[Order] = [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
sides = st.integers(1, 4000)


@pytest.mark.parametrize("shape", [CREMI, PADDED])
@pytest.mark.parametrize(("of_shape", "of_size"), list(itertools.product([(0, 1, 2), *ORDERS], repeat=2)))
def test_any_other_order_of_cremis_volumes_is_told(shape: Order, of_shape: Order, of_size: Order) -> None:
    ordered, size = tuple(shape[axis] for axis in of_shape), tuple((40.0, 4.0, 4.0)[axis] for axis in of_size)
    assert (doubtful_axes(ordered, size) is None) == (ordered == shape and size == (40.0, 4.0, 4.0))


def test_the_sentence_has_both() -> None:
    said = doubtful_axes((1250, 1250, 125), (40, 4, 4))
    assert said is not None
    assert "(1250, 1250, 125) px of (40, 4, 4) nm" in said
    assert "axis 2 has by far the fewest voxels" in said


@given(shape=st.tuples(sides, sides, sides), side=st.floats(1, 100), z=st.floats(0.81, 1.19))
def test_isotropic_voxels_tell_nothing(shape: Order, side: float, z: float) -> None:
    assert doubtful_axes(shape, (z * side, side, side)) is None


@given(shape=st.tuples(sides, sides, sides), thick=st.floats(1.3, 20))
def test_voxels_coarse_along_two_axes_tell_nothing(shape: Order, thick: float) -> None:
    assert doubtful_axes(shape, (5.0, 5 * thick, 5 * thick)) is None


@given(depth=sides, side=sides, other=sides, thick=st.floats(1.3, 20))
def test_thick_and_fewest_sections_are_no_doubt(depth: int, side: int, other: int, thick: float) -> None:
    assert doubtful_axes((min(depth, side, other), side, other), (5 * thick, 5.0, 5.0)) is None


def test_deep_stacks_of_small_crops_are_accepted() -> None:
    assert doubtful_axes((2000, 512, 600), (40, 4, 4)) is None


def test_doubtful_volumes_are_converted_with_a_warning(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 28, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "v.tif", image, photometric="minisblack")
    with pytest.warns(UserWarning, match=r"v\.tif: \(30, 28, 5\) px of \(40, 4, 4\) nm .*fewest voxels; it is written"):
        convert_volume(str(tmp_path / "v.tif"), tmp_path / "o.zarr", "v", "40,4,4")
    np.testing.assert_array_equal(stored(tmp_path / "o.zarr", "train/v"), image)
    assert pixel_size(tmp_path / "o.zarr", "train/v") == [40.0, 4.0, 4.0]


def test_an_isotropic_volume_has_no_note(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "v.tif", np.eye(30, dtype=np.uint8)[..., None].repeat(5, 2) * 255, photometric="minisblack"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert convert_volume(str(tmp_path / "v.tif"), tmp_path / "o.zarr", "v", "5,5,5") == ["train/v"]


@pytest.mark.parametrize("text", ["x", "0", "-4", "1,2,3,4", "nan", "4 nm"])
def test_what_is_no_pixel_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is no pixel size in nm"):
        parse_pixel_size(text, "--pixel-size-nm")
