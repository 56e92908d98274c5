"""Views of volumes as planes, against numpy on the whole array."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.mosaic import is_isotropic, only_planes, plane_views, sides, tile_of
from data_modules.store import MosaicView
from tests.support.mosaic_checks import CUBIC, FLAT, VOLUMES, Bytes, PlaneStore, plane_view, write_planes

ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> PlaneStore:
    """A cube, an image and a stack of thick planes in either split."""
    path = tmp_path_factory.mktemp("planes") / "s"
    return path, write_planes(path, list(VOLUMES))


def expected_patch(whole: Bytes, origin: Sequence[int], size: Sequence[int], mode: str) -> Bytes:
    """Of an array that is padded far enough by numpy before anything is cut out."""
    far = [(max(0, -o), max(0, o + s - side)) for o, s, side in zip(origin, size, whole.shape, strict=True)]
    fill: dict[str, Any] = {"constant_values": 255} if mode == "constant" else {}
    inside = tuple(slice(max(0, o), min(side, o + s)) for o, s, side in zip(origin, size, whole.shape, strict=True))
    found: Bytes = np.pad(whole[inside], far, mode=mode, **fill)  # type: ignore[call-overload]
    return found


def assert_same(mosaic: MosaicView, image: Bytes, mask: Bytes, origin: Sequence[int], size: Sequence[int]) -> None:
    assert mosaic.shape == image.shape
    np.testing.assert_array_equal(mosaic.read_image(origin, size), expected_patch(image, origin, size, "symmetric"))
    np.testing.assert_array_equal(mosaic.read_mask(origin, size), expected_patch(mask, origin, size, "constant"))


@st.composite
def regions(draw: st.DrawFn, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """Origin and size of a region that sees at least one pixel."""
    origin = [draw(st.integers(-12, side - 1)) for side in shape]
    return origin, [draw(st.integers(max(1, 1 - first), 30)) for first in origin]


@given(data=st.data())
@pytest.mark.parametrize("order", ORDERS)
def test_axes_in_another_order_are_numpys_transpose(
    mixed: PlaneStore, data: st.DataObject, order: tuple[int, int, int]
) -> None:
    image, mask = mixed[1]["train/cube"]
    turned = plane_view(mixed, "train/cube").along(*order)
    assert turned.pixel_size_nm == tuple(CUBIC[axis] for axis in order)
    assert_same(turned, image.transpose(order), mask.transpose(order), *data.draw(regions(turned.shape)))


@given(data=st.data(), order=st.sampled_from(ORDERS))
def test_windows_of_volumes_have_any_axis_order(
    mixed: PlaneStore, data: st.DataObject, order: tuple[int, int, int]
) -> None:
    image, mask = mixed[1]["train/cube"]
    start = [data.draw(st.integers(0, side - 3)) for side in image.shape]
    stop = [data.draw(st.integers(first + 2, side)) for first, side in zip(start, image.shape, strict=True)]
    inside = tuple(slice(*ends) for ends in zip(start, stop, strict=True))
    turned = plane_view(mixed, "train/cube").window(start, stop).along(*order)
    image, mask = (pixels[inside].transpose(order) for pixels in (image, mask))
    assert_same(turned, image, mask, *data.draw(regions(turned.shape)))
    inner = turned.window((1, 0, 1), turned.shape)
    assert_same(inner, image[1:, :, 1:], mask[1:, :, 1:], *data.draw(regions(inner.shape)))


@given(data=st.data(), key=st.sampled_from(["cube", "image"]), orders=st.lists(st.sampled_from(ORDERS), max_size=3))
def test_views_that_are_turned_can_be_turned_again(
    mixed: PlaneStore, data: st.DataObject, key: str, orders: list[tuple[int, int, int]]
) -> None:
    image, mask = mixed[1][f"train/{key}"]
    mosaic = plane_view(mixed, f"train/{key}")
    if key == "image":
        mosaic, image, mask = mosaic.as_plane(), image[None], mask[None]
    for order in orders:
        mosaic, image, mask = mosaic.along(*order), image.transpose(order), mask.transpose(order)
    assert_same(mosaic, image, mask, *data.draw(regions(mosaic.shape)))


@given(data=st.data(), whole=st.booleans())
def test_an_image_is_a_volume_of_one_plane(mixed: PlaneStore, data: st.DataObject, whole: bool) -> None:
    image, mask = mixed[1]["train/image"]
    mosaic = plane_view(mixed, "train/image")
    if not whole:
        mosaic, image, mask = mosaic.window((3, 4), (30, 35)), image[3:30, 4:35], mask[3:30, 4:35]
    plane = mosaic.as_plane()
    assert plane.pixel_size_nm == (4.0, 4.0, 4.0)
    assert_same(plane, image[None], mask[None], *data.draw(regions(plane.shape)))


@pytest.mark.parametrize(
    ("size", "even"),
    [((4, 4, 4), True), (CUBIC, True), (FLAT, False), ((4.8, 4, 4), True), ((4.9, 4, 4), False),
     ((3.2, 4, 4), True), ((3.1, 4, 4), False), ((5, 5, 4), False), ((4, 5, 5), True)],
)  # fmt: skip
def test_isotropic_means_z_within_a_fifth(size: tuple[float, ...], even: bool) -> None:
    assert is_isotropic(size) == even


def test_volumes_give_one_or_three_views(mixed: PlaneStore) -> None:
    mosaics = [plane_view(mixed, key) for key in ("train/cube", "train/image", "train/stack")]
    assert [each.shape for each in plane_views(mosaics, "xy")] == [(20, 24, 22), (1, 33, 40), (5, 28, 36)]
    found = plane_views(mosaics, "orthogonal")
    assert [each.shape for each in found] == [(20, 24, 22), (24, 20, 22), (22, 20, 24), (1, 33, 40), (5, 28, 36)]
    assert len({each.key for each in found}) == len(found)
    assert found[0].read_image((7, 0, 0), (1, 24, 22)).tolist() == mixed[1]["train/cube"][0][7:8].tolist()
    image = mixed[1]["train/cube"][0]
    np.testing.assert_array_equal(found[1].read_image((9, 0, 0), (1, 20, 22))[0], image[:, 9])
    np.testing.assert_array_equal(found[2].read_image((9, 0, 0), (1, 20, 24))[0], image[:, :, 9])


def test_tiles_are_planes_or_cubes(mixed: PlaneStore) -> None:
    cube, image, stack = (plane_view(mixed, key) for key in ("train/cube", "train/image", "train/stack"))
    for mosaic, planes, tile in [
        (cube, "xy", (1, 16, 16)), (stack, "xy", (1, 16, 16)), (image, "xy", (16, 16)), (image, None, (16, 16)),
        (cube, "orthogonal", (16, 16, 16)), (stack, "orthogonal", (1, 16, 16)), (image, "orthogonal", (16, 16)),
    ]:  # fmt: skip
        assert tile_of(mosaic, 16, planes) == tile  # type: ignore[arg-type]
    assert tile_of(cube, [16, 24], "xy") == (1, 16, 24)
    assert tile_of(stack, [16, 24], "orthogonal") == (1, 16, 24)
    assert tile_of(cube, [4, 16, 24], None) == (4, 16, 24)
    with pytest.raises(UserError, match="planes in three directions need one side for all"):
        tile_of(cube, [16, 24], "orthogonal")
    with pytest.raises(UserError, match=r"tile_size 16: mosaics of 3 axes need.*--data.planes xy or orthogonal"):
        tile_of(cube, 16, None)
    with pytest.raises(UserError, match=r"tile_size \[4, 16, 16\]: planes have two sides"):
        tile_of(cube, [4, 16, 16], "xy")
    assert only_planes([16, 24], "patch_size") == (1, 16, 24)
    assert sides([3, 4, 5], 3, "patch_size") == (3, 4, 5)
