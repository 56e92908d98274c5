"""Planes of volumes as loaders hand them out, together with images, and against numpy on the whole array."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.trainer.states import TrainerFn

from data_modules.augment.images import Augment
from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.mosaic import Mosaic, plane_sides, plane_views, sides
from data_modules.patches.sampling import ForegroundPatches, GridPatches
from data_modules.patches.splits import PatchSplit, RegionSplit
from data_modules.store import MosaicView
from tests.support.store_checks import CUBIC, NAMES, VOLUMES, Bytes, PlaneStore, plane_view, write_planes
from tests.support.trainers import StandInTrainer, attach

ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> PlaneStore:
    """A cube, an image and a stack of thick planes in either split."""
    path = tmp_path_factory.mktemp("planes") / "s"
    return path, write_planes(path, list(VOLUMES))


def data_of(mixed: PlaneStore, **changes: Any) -> Mosaic:
    settings: dict[str, Any] = {"patch_size": 16, "batch_size": 4, "patches_per_epoch": 40, "seed": 1}
    return Mosaic(str(mixed[0]), "organelles", classes=NAMES, **{**settings, **changes})


def plane_of(mixed: PlaneStore, key: str, origin: Sequence[int], side: int) -> tuple[Bytes, Bytes]:
    """Plane that a key and an origin name, cut out of the whole array."""
    key, _, axes = key.partition(" (")
    order = ["zyx".index(axis) for axis in axes.rstrip(")")]
    parts = []
    for pixels in mixed[1][key]:
        whole = pixels[None] if pixels.ndim == 2 else pixels.transpose(order or (0, 1, 2))
        across, y, x = origin
        parts.append(whole[across, y : y + side, x : x + side])
    return parts[0], parts[1]


@pytest.mark.parametrize(
    ("planes", "sampling", "on_damage"),
    [
        ("xy", None, "stop"),
        ("orthogonal", GridPatches(), "skip"),
        ("orthogonal", ForegroundPatches(0.2), "stop"),
        ("xy", ForegroundPatches(0.2), "skip"),
    ],
)
def test_training_patches_are_planes_of_what_they_name(
    mixed: PlaneStore, planes: str, sampling: Any, on_damage: str
) -> None:
    data = data_of(mixed, planes=planes, sampling=sampling, on_damage=on_damage)
    data.setup("fit")
    loader = data.train_dataloader()
    mosaics = loader.dataset.mosaics  # type: ignore[attr-defined]
    assert len(mosaics) == (3 if planes == "xy" else 5)
    seen = set()
    for batch in loader:
        count = len(batch["image"])
        assert batch["image"].shape == (count, 1, 16, 16)
        assert batch["mask"].shape == (count, 16, 16)
        assert batch["origin"].shape == batch["pixel_size_nm"].shape == (count, 3)
        for place, (number, origin) in enumerate(zip(batch["mosaic"].tolist(), batch["origin"].tolist(), strict=True)):
            image, mask = plane_of(mixed, mosaics[number].key, origin, 16)
            np.testing.assert_array_equal(batch["image"][place, 0], image)
            np.testing.assert_array_equal(batch["mask"][place], mask)
            assert tuple(batch["pixel_size_nm"][place].tolist()) == pytest.approx(mosaics[number].pixel_size_nm)
            seen.add(number)
    assert seen == set(range(len(mosaics)))


def test_planes_are_augmented_as_images_are(mixed: PlaneStore) -> None:
    data = data_of(mixed, planes="orthogonal", augment=Augment())
    data.setup("fit")
    attach(data, StandInTrainer(training=True))
    batch: Batch = next(iter(data_of_train(mixed)))
    found = data.on_after_batch_transfer(batch, 0)
    assert found["image"].shape == (4, 1, 16, 16)
    assert found["mask"].shape == (4, 16, 16)
    assert not torch.equal(found["image"], batch["image"].float())
    # Classes travel with their pixels and none is made up between two others.
    assert set(found["mask"].flatten().tolist()) <= {0, 1, 2, 255}
    images = {**batch, "origin": batch["origin"][:, 1:], "pixel_size_nm": batch["pixel_size_nm"][:, 1:]}
    as_images = Augment()(Batch(**images), 1, 0)  # type: ignore[typeddict-item]
    assert torch.equal(as_images["image"], found["image"])
    assert torch.equal(as_images["mask"], found["mask"])


def data_of_train(mixed: PlaneStore) -> Any:
    data = data_of(mixed, planes="orthogonal")
    data.setup("fit")
    return data.train_dataloader()


def test_regions_of_volumes_and_images_divide_along_x(mixed: PlaneStore) -> None:
    data = data_of(
        mixed, planes="orthogonal", patch_size=8, split=RegionSplit(val_fraction=0.3, gap_px=2), full_validation_every=1
    )
    data.setup("fit")
    loader: Any = data.train_dataloader()
    # 22, 40 and 36 px wide, of which 7, 12 and 11 validate behind a gap of 2.
    assert [mosaic.shape for mosaic in loader.dataset.mosaics] == [
        (20, 24, 13), (24, 20, 13), (13, 20, 24), (1, 33, 26), (5, 28, 23),
    ]  # fmt: skip
    assert all(batch["image"].shape[1:] == (1, 8, 8) for batch in loader)
    image = mixed[1]["train/cube"][0]
    np.testing.assert_array_equal(
        loader.dataset.mosaics[2].read_image((0, 0, 0), (13, 20, 24)), image[:, :, :13].transpose(2, 0, 1)
    )
    data.setup("validate")
    (sweep,) = data.val_dataloader()
    mosaics = sweep.dataset.mosaics  # type: ignore[attr-defined]
    assert [mosaic.shape for mosaic in mosaics] == [(20, 24, 7), (33, 12), (5, 28, 11)]
    np.testing.assert_array_equal(mosaics[0].read_image((0, 0, 0), (20, 24, 7)), image[:, :, 15:])


@pytest.mark.parametrize("splits", [["train/image"], ["train/cube"], list(VOLUMES)])
def test_the_leaking_split_is_refused_for_planes(tmp_path: Path, splits: list[str]) -> None:
    store = (tmp_path / "s", write_planes(tmp_path / "s", splits))
    for stage in ("fit", "validate"):
        with pytest.raises(UserError, match=r"data\.planes: choose another data\.split"):
            data_of(store, planes="xy", split=PatchSplit(train=4, val=4)).setup(stage)


@pytest.mark.parametrize("planes", ["xy", "orthogonal"])
def test_cheap_validation_counts_each_plane_pixel_once(mixed: PlaneStore, planes: str) -> None:
    data = data_of(mixed, planes=planes, val_tiles=None)
    data.setup("fit")
    attach(data, StandInTrainer(verb=TrainerFn.FITTING))
    loader = data.val_dataloader()[0]
    mosaics = loader.dataset.mosaics  # type: ignore[attr-defined]
    counted = [np.zeros((3, *mosaic.shape), int) for mosaic in mosaics]
    for batch in loader:
        assert batch["image"].shape[1:] == (1, 16, 16)
        for place, (number, origin) in enumerate(zip(batch["mosaic"].tolist(), batch["origin"].tolist(), strict=True)):
            across, y, x = origin
            for value in range(3):
                part = counted[number][value, across, y : y + 16, x : x + 16]
                part += (batch["mask"][place].numpy() == value)[: part.shape[0], : part.shape[1]]
    for mosaic, found in zip(mosaics, counted, strict=True):
        mask = mosaic.read_mask((0, 0, 0), mosaic.shape)
        for value in range(3):
            np.testing.assert_array_equal(found[value], mask == value)
    data = data_of(mixed, planes=planes, val_tiles=len(mosaics) * 2)
    data.setup("fit")
    attach(data, StandInTrainer(verb=TrainerFn.FITTING))
    numbers = torch.cat([batch["mosaic"] for batch in data.val_dataloader()[0]]).tolist()
    assert all(numbers.count(number) <= 2 for number in range(len(mosaics)))
    assert set(numbers) == set(range(len(mosaics)))


def test_whole_mosaics_are_swept_in_their_own_axes(mixed: PlaneStore) -> None:
    data = data_of(mixed, planes="orthogonal", test_split="val", predict_split="val", eval_batch_size=2)
    for stage, loader in (("test", data.test_dataloader), ("predict", data.predict_dataloader)):
        data.setup(stage)
        shapes = {batch["image"].shape[2:] for batch in loader()}
        assert shapes == {(16, 16, 16), (16, 16), (1, 16, 16)}
        assert [mosaic.shape for mosaic in loader().dataset.mosaics] == [  # type: ignore[attr-defined]
            VOLUMES[f"val/{name}"][0] for name in ("cube", "image", "stack")
        ]


def test_small_volumes_are_refused_per_direction(mixed: PlaneStore) -> None:
    with pytest.raises(
        UserError, match=r"2 training mosaics are smaller .*\(yzx\) \(24, 20, 22\).*\(xzy\) \(22, 20, 24\)"
    ):
        data_of(mixed, planes="orthogonal", patch_size=21).setup("fit")
    data_of(mixed, planes="xy", patch_size=21).setup("fit")
    data = data_of(mixed, planes="orthogonal", patch_size=21, allow_small=True)
    data.setup("fit")
    batches: list[Batch] = list(data.train_dataloader())
    assert all(batch["image"].shape[1:] == (1, 21, 21) for batch in batches)


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
    store = str(mixed[0])
    for mosaic, planes, tile in [
        (cube, "xy", (1, 16, 16)), (stack, "xy", (1, 16, 16)), (image, "xy", (16, 16)), (image, None, (16, 16)),
        (cube, "orthogonal", (16, 16, 16)), (stack, "orthogonal", (1, 16, 16)), (image, "orthogonal", (16, 16)),
    ]:  # fmt: skip
        assert Mosaic(store, tile_size=16, planes=planes).tile_shape(mosaic) == tile  # type: ignore[arg-type]
    assert Mosaic(store, tile_size=[16, 24], planes="xy").tile_shape(cube) == (1, 16, 24)
    assert Mosaic(store, tile_size=[16, 24], planes="orthogonal").tile_shape(stack) == (1, 16, 24)
    assert Mosaic(store, tile_size=[4, 16, 24], planes=None).tile_shape(cube) == (4, 16, 24)
    with pytest.raises(UserError, match="planes in three directions need one side for all"):
        Mosaic(store, tile_size=[16, 24], planes="orthogonal").tile_shape(cube)
    with pytest.raises(UserError, match=r"tile_size 16: mosaics of 3 axes need.*--data.planes xy or orthogonal"):
        Mosaic(store, tile_size=16, planes=None).tile_shape(cube)
    with pytest.raises(UserError, match=r"tile_size \[4, 16, 16\]: planes have two sides"):
        Mosaic(store, tile_size=[4, 16, 16], planes="xy").tile_shape(cube)
    assert plane_sides([16, 24], "patch_size") == (1, 16, 24)
    assert sides([3, 4, 5], 3, "patch_size") == (3, 4, 5)
