"""Windows of mosaics against the arrays that were written."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView, SampleWriter
from lightning_emseg.attribution.windows import (
    Place,
    baseline_window,
    hash_name,
    read_window,
    refuse_planes,
    refuse_sides,
    resized_sides,
    strides_of,
    window_shape,
    window_sides,
)
from lightning_emseg.networks.volumes import CleftNet
from tests.support import tiny

Pixels = NDArray[np.uint8]


def view(folder: Path, image: Pixels, mask: Pixels | None, pixel_size_nm: Sequence[float] | None = None) -> MosaicView:
    store = folder / "s.zarr"
    if pixel_size_nm is None:
        tiny.write_sample(store, "test/a", image, mask)
    else:
        with SampleWriter(store, "test", "a", image.shape, tuple(pixel_size_nm)) as sample:
            sample.image.write(image)
    return MosaicView.of(MosaicStore(store).sample("test/a"), None if mask is None else "membrane")


def test_inner_window_equals_the_array(tmp_path: Path) -> None:
    image, mask = tiny.content((60, 70), 0)
    found = read_window(view(tmp_path, image, mask), Place(0, (10, 20), (32, 48)))
    np.testing.assert_array_equal(found.image, image[None, 10:42, 20:68])
    np.testing.assert_array_equal(found.truth, mask[10:42, 20:68])
    assert found.image.dtype == np.float32
    assert found.truth.dtype == np.uint8
    assert (found.inside, found.shape_inside) == ((slice(0, 32), slice(0, 48)), (32, 48))
    assert (found.pixel_size_nm, found.scale) == ((4.0, 4.0), (1.0, 1.0))


@pytest.mark.parametrize("shape", [(40, 50), (33, 97), (5, 3)])
def test_small_mosaic_is_mirrored_and_ignored_outside(tmp_path: Path, shape: tuple[int, int]) -> None:
    image, mask = tiny.content(shape, 1)
    size = tuple(side + 27 for side in shape)
    found = read_window(view(tmp_path, image, mask), Place(0, (0, 0), size))
    rows, columns = (
        (np.minimum(i % (2 * n), 2 * n - 1 - i % (2 * n))) for i, n in zip(map(np.arange, size), shape, strict=True)
    )
    np.testing.assert_array_equal(found.image[0], image[rows][:, columns])
    assert found.inside == tuple(slice(0, side) for side in shape)
    assert math.prod(found.shape_inside) == shape[0] * shape[1]
    np.testing.assert_array_equal(found.truth[found.inside], mask)
    outside = np.ones(size, np.bool_)
    outside[found.inside] = False
    assert (found.truth[outside] == 255).all()


def test_window_ending_at_the_border_lies_inside(tmp_path: Path) -> None:
    image, mask = tiny.content((101, 64), 2)
    found = read_window(view(tmp_path, image, mask), Place(0, (101 - 64, 0), (64, 64)))
    np.testing.assert_array_equal(found.image[0], image[37:])
    assert math.prod(found.shape_inside) == 64 * 64


def test_without_labels_all_truth_is_ignored(tmp_path: Path) -> None:
    found = read_window(view(tmp_path, tiny.content((40, 40), 0)[0], None), Place(0, (3, 4), (32, 32)))
    assert (found.truth == 255).all()
    assert found.truth.shape == (32, 32)


def test_reduced_window_resembles_pillow(tmp_path: Path) -> None:
    image, mask = tiny.content((96, 128), 3)
    found = read_window(view(tmp_path, image, mask), Place(0, (0, 0), (96, 128)), (48, 32))
    assert found.scale == (2.0, 4.0)
    assert found.pixel_size_nm == (8.0, 16.0)
    assert found.inside == (slice(0, 48), slice(0, 32))
    expected = np.asarray(Image.fromarray(image.astype(np.float32)).resize((32, 48), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found.image[0], expected, atol=0.01)
    np.testing.assert_array_equal(found.truth, mask[1::2, 2::4])


def test_enlarging_gives_smaller_pixels(tmp_path: Path) -> None:
    image, mask = tiny.content((32, 32), 4)
    found = read_window(view(tmp_path, image, mask), Place(0, (0, 0), (32, 32)), (64, 96))
    assert found.scale == pytest.approx((1 / 2, 1 / 3))
    assert found.pixel_size_nm == pytest.approx((2, 4 / 3))
    np.testing.assert_array_equal(found.truth, mask.repeat(2, axis=0).repeat(3, axis=1))


def test_anisotropic_volumes_are_antialiased_along_all_axes(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 36, 40), dtype=np.uint8)
    mosaic = view(tmp_path, image, None, (40.0, 8.0, 4.0))
    found = read_window(mosaic, Place(0, (0, 0, 0), (8, 36, 40)), (8, 18, 10))
    assert found.pixel_size_nm == (40.0, 16.0, 16.0)
    for section, expected in zip(found.image[0], image, strict=True):
        pillow = Image.fromarray(expected.astype(np.float32)).resize((10, 18), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(section, np.asarray(pillow), atol=0.01)
    halved = read_window(mosaic, Place(0, (0, 0, 0), (8, 36, 40)), (4, 36, 40))
    assert halved.pixel_size_nm == (80.0, 8.0, 4.0)
    # Every column along Z, as Pillow resizes an image one pixel wide.
    for y, x in ((0, 0), (17, 20), (35, 39)):
        column = Image.fromarray(image[:, y : y + 1, x].astype(np.float32)).resize((1, 4), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(halved.image[0, :, y, x], np.asarray(column)[:, 0], atol=0.01)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> MosaicView:
    return view(tmp_path_factory.mktemp("small"), *tiny.content((61, 64), 5))


@given(side=st.integers(8, 130), size=st.integers(50, 130))
def test_inside_part_covers_exactly_the_mosaic(small: MosaicView, side: int, size: int) -> None:
    found = read_window(small, Place(0, (0, 0), (size, 64)), (side, 64))
    inside = found.inside[0].stop
    assert found.image.shape == (1, side, 64)
    assert inside <= side
    # The last pixel inside begins within the mosaic, the next one does not.
    real = min(61, size)
    assert (inside - 1) * size < real * side
    assert inside * size >= real * side
    assert math.prod(found.shape_inside) == inside * 64
    assert (found.truth[inside:] == 255).all()


@given(wanted=st.integers(1, 200), extent=st.integers(1, 200), stride=st.integers(1, 32))
def test_window_shapes_match_brute_force(wanted: int, extent: int, stride: int) -> None:
    found = window_shape((wanted,), (extent,), stride)
    assert found == (next(side for side in range(stride, 300, stride) if side >= min(wanted, extent)),)


def test_noise_depends_on_place_and_mosaic(tmp_path: Path) -> None:
    mosaic = view(tmp_path, *tiny.content((90, 90), 6))

    def noise(place: Place, key: str = mosaic.key, seed: int = 5) -> NDArray[np.float32]:
        image = read_window(mosaic, place).image
        return baseline_window("noise", image, (seed, hash_name(key)), place.origin, mosaic.pixel_size_nm)

    places = [Place(0, (0, 10), (48, 48)), Place(0, (20, 30), (48, 48))]
    first, second = map(noise, places)
    assert first.shape == (1, 48, 48)
    np.testing.assert_array_equal(first[:, 20:, 20:], second[:, :28, :28])
    assert (first != noise(places[0], "test/b")).mean() > 0.9
    assert (first != noise(places[0], seed=6)).mean() > 0.9


def test_baselines_have_the_resized_shape(tmp_path: Path) -> None:
    mosaic = view(tmp_path, *tiny.content((64, 64), 7))
    place = Place(0, (0, 0), (64, 64))
    window = read_window(mosaic, place, (32, 32))
    assert baseline_window("noise", window.image, (0, 0), (0, 0), window.pixel_size_nm).shape == (1, 32, 32)
    # 200 nm are 25 px of 8 nm.
    blurred = torch.from_numpy(baseline_window("blurred", window.image, (0, 0), (0, 0), window.pixel_size_nm))
    assert float(blurred.std()) < 0.2 * float(window.image.std())
    assert float(F.mse_loss(blurred.mean(), torch.tensor(window.image.mean()))) < 4


def test_volume_networks_state_strides_by_axis() -> None:
    network = CleftNet(patch=(8, 32, 32), widths=(8, 8, 16), voxel_nm=(40.0, 4.0, 4.0))
    assert strides_of(network, 4, 3) == (1, 4, 4)
    assert strides_of(nn.Conv2d(1, 1, 3, stride=2), 16, 2) == (16, 16)
    assert strides_of(nn.Identity(), 16, 3) == (16, 16, 16)


def test_one_side_is_limited_by_the_patch() -> None:
    assert window_sides(512, {"patch": [8, 256, 256]}, 3) == (8, 256, 256)
    assert window_sides(64, {"patch": (8, 256, 256)}, 3) == (8, 64, 64)
    assert window_sides([16, 512, 512], {"patch": (8, 256, 256)}, 3) == (16, 512, 512)
    assert window_sides(64, {}, 3) == (64, 64, 64)
    assert window_sides(512, {"patch": 16}, 2) == (512, 512)


def test_one_side_keeps_the_number_of_sections() -> None:
    assert resized_sides(64, (8, 128, 96)) == (8, 64, 64)
    assert resized_sides([4, 64, 48], (8, 128, 96)) == (4, 64, 48)


def test_unsuitable_sides_are_refused_by_option() -> None:
    assert refuse_sides("window", 8, (8, 8), 2) == (8, 8)
    with pytest.raises(UserError, match=r"--window \[8, 8\] has to be one side or 3 sides"):
        refuse_sides("window", [8, 8], (8, 8), 3)
    with pytest.raises(UserError, match=r"--resize 30 is no multiple of the network's 4 px: take 32"):
        refuse_sides("resize", 30, (7, 30, 30), 3, (1, 4, 4))


def test_planes_of_volumes_are_refused() -> None:
    refuse_planes(2, 2)
    refuse_planes(3, 3)
    with pytest.raises(UserError, match="plane by plane"):
        refuse_planes(2, 3)
