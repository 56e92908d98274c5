"""Batches of patches, tiles and sweeps against crops of whole arrays, and the thread that reads ahead."""

import math
import pickle
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from data_modules.batch import Batch
from data_modules.errors import UserError
from data_modules.geometry import Grid, RowSpan, Sweep
from data_modules.mosaic import Mosaic
from data_modules.patches.dataset import PatchDataset, SweepDataset, TileDataset, spread_tiles
from data_modules.patches.loaders import Patch
from data_modules.store import MosaicView
from tests.support.store_checks import Bytes, views, write_mosaic, write_random

SIZES: dict[str, tuple[int, ...]] = {"train/a": (150, 210), "train/b": (40, 300), "train/c": (20, 25)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[MosaicView], list[tuple[Bytes, Bytes]]]:
    store = tmp_path_factory.mktemp("dataset") / "s"
    pixels = write_random(store, SIZES)
    return views(store), list(pixels.values())


Written = tuple[list[MosaicView], list[tuple[Bytes, Bytes]]]


def padded(pixels: Bytes, origin: Sequence[int], size: tuple[int, ...], fill: int | None) -> Bytes:
    """Crop of an array that is first padded on all sides by a whole patch."""
    if fill is None:
        around = np.pad(pixels, [(side, side) for side in size], mode="symmetric")
    else:
        around = np.pad(pixels, [(side, side) for side in size], constant_values=fill)
    return around[tuple(slice(o + side, o + 2 * side) for o, side in zip(origin, size, strict=True))]


def test_patch_batches_are_crops(written: Written) -> None:
    mosaics, pixels = written
    patches = [Patch(0, (3, 5), 17), Patch(1, (0, 236), 18), Patch(0, (110, 146), 3)]
    batch = PatchDataset(mosaics, (40, 64)).__getitems__(patches)
    assert (batch["image"].shape, batch["image"].dtype) == ((3, 1, 40, 64), torch.uint8)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((3, 40, 64), torch.uint8)
    assert batch["mosaic"].tolist() == [0, 1, 0]
    assert batch["origin"].tolist() == [[3, 5], [0, 236], [110, 146]]
    assert batch["index"].tolist() == [17, 18, 3]
    assert batch["index"].dtype == batch["mosaic"].dtype == batch["origin"].dtype == torch.int64
    assert batch["pixel_size_nm"].tolist() == [[4.0, 4.0]] * 3
    assert batch["pixel_size_nm"].dtype == torch.float32
    for number, patch in enumerate(patches):
        image, mask = (padded(array, patch.origin, (40, 64), 0) for array in pixels[patch.mosaic])
        np.testing.assert_array_equal(batch["image"][number, 0].numpy(), image)
        np.testing.assert_array_equal(batch["mask"][number].numpy(), mask)


def test_patches_beyond_a_mosaic_are_mirrored(written: Written) -> None:
    mosaics, pixels = written
    batch = PatchDataset(mosaics, (64, 64)).__getitems__([Patch(2, (0, 0), 0)])
    image = np.pad(pixels[2][0], [(0, 44), (0, 39)], mode="symmetric")
    np.testing.assert_array_equal(batch["image"][0, 0].numpy(), image)
    assert (batch["mask"] != 255).sum() == 20 * 25


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (41, 17)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiles_count_every_pixel_exactly_once(written: Written, size: tuple[int, int], batch_size: int) -> None:
    mosaics, pixels = written
    tiles = spread_tiles(mosaics, size, None, seed=0)
    dataset = TileDataset(mosaics, size, tiles, batch_size, "membrane")
    assert len(dataset) == math.ceil(len(tiles) / batch_size)
    assert len(list(iter_items(dataset))) == len(dataset)
    counted = [np.zeros(shape, int) for shape in SIZES.values()]
    for batch in iter_items(dataset):
        for number in range(len(batch["mask"])):
            mosaic, (y, x) = int(batch["mosaic"][number]), batch["origin"][number].tolist()
            image, mask = pixels[mosaic]
            got = batch["mask"][number].numpy()
            rows, columns = np.nonzero(got != 255)
            np.add.at(counted[mosaic], (rows + y, columns + x), 1)
            np.testing.assert_array_equal(got[rows, columns], mask[rows + y, columns + x])
            np.testing.assert_array_equal(batch["image"][number, 0].numpy(), padded(image, (y, x), size, None))
    for count in counted:
        assert (count == 1).all()


def iter_items(dataset: TileDataset | SweepDataset) -> Iterator[Batch]:
    return (dataset[index] for index in range(len(dataset)))


def test_chosen_tiles_are_fixed_spread_and_unique(written: Written) -> None:
    mosaics, _ = written
    chosen = spread_tiles(mosaics, (32, 32), 11, seed=3)
    assert chosen == spread_tiles(mosaics, (32, 32), 11, seed=3)
    assert chosen != spread_tiles(mosaics, (32, 32), 11, seed=4)
    # 11 over three mosaics is 4, 4 and 3, but the last has only one tile.
    assert [sum(mosaic == number for mosaic, _, _ in chosen) for number in range(3)] == [4, 4, 1]
    everything = {(mosaic, origin) for mosaic, origin, _ in spread_tiles(mosaics, (32, 32), None, seed=3)}
    assert {(mosaic, origin) for mosaic, origin, _ in chosen} <= everything
    assert len({(mosaic, origin) for mosaic, origin, _ in chosen}) == len(chosen)
    assert len(spread_tiles(mosaics, (32, 32), 1, seed=3)) == 3, "at least one each"


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_a_sweep_gives_every_tile(written: Written, overlap: float) -> None:
    mosaics, pixels = written
    tile = (48, 40)
    grids = tuple(Grid(mosaic.shape, tile, overlap) for mosaic in mosaics)
    spans = tuple(RowSpan(number, 0, mosaic.shape[0]) for number, mosaic in enumerate(mosaics))
    dataset = SweepDataset(mosaics, Sweep(grids, spans, 3), "membrane")
    seen = []
    for batch in iter_items(dataset):
        assert "mask" not in batch
        assert 1 <= len(batch["image"]) <= 3
        for number, image in enumerate(batch["image"]):
            mosaic, origin = int(batch["mosaic"][number]), batch["origin"][number].tolist()
            np.testing.assert_array_equal(image[0].numpy(), padded(pixels[mosaic][0], origin, tile, None))
            seen.append((mosaic, tuple(origin)))
    assert seen == [(number, origin) for number, grid in enumerate(grids) for origin in grid]


def test_a_sweep_of_a_volume(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 30, 33), dtype=np.uint8)
    write_mosaic(tmp_path / "s", "train/a", image)
    mosaics = views(tmp_path / "s", label=None)
    grid = Grid(image.shape, (4, 16, 16), 0.5)
    seen = []
    for batch in iter_items(SweepDataset(mosaics, Sweep((grid,), (RowSpan(0, 2, 5),), 2), "m")):
        for pixels, (z, y, x) in zip(batch["image"], batch["origin"].tolist(), strict=True):
            np.testing.assert_array_equal(pixels[0].numpy(), image[z : z + 4, y : y + 16, x : x + 16])
            seen.append((z, y, x))
    assert seen == [origin for origin in grid if origin[0] < 5 and origin[0] + 4 > 2]


@pytest.mark.slow
def test_workers_give_the_batches_of_one_process(tmp_path: Path) -> None:
    """Through the loader as training builds it; starting workers by forkserver is what takes its time."""
    write_random(tmp_path / "s", {"train/a": (90, 80), "val/b": (60, 70)})
    results: list[list[Batch]] = []
    for workers in (0, 2):
        module = Mosaic(
            str(tmp_path / "s"), patch_size=32, batch_size=3, patches_per_epoch=10, num_workers=workers, seed=4
        )
        module.setup("fit")
        loader = module.train_dataloader()
        if workers:
            assert "ForkServer" in type(loader.multiprocessing_context).__name__
        results.append(list(loader))
    assert_same(*results)


def test_a_sweep_travels_to_workers(written: Written) -> None:
    mosaics, _ = written
    grids = tuple(Grid(mosaic.shape, (48, 40), 0.5) for mosaic in mosaics)
    dataset = SweepDataset(mosaics, Sweep(grids, (RowSpan(0, 0, 150), RowSpan(2, 0, 20)), 3), "membrane")
    before = list(iter_items(dataset))
    assert_same(before, list(iter_items(pickle.loads(pickle.dumps(dataset)))))


class WatchedMosaic:
    """Mosaic of five rows of one tile each, whose grey values are their rows; row 1 may be damaged."""

    pixel_size_nm = (4.0, 4.0)

    def __init__(self, damaged: bool = False) -> None:
        self.damaged = damaged
        self.read = {row: threading.Event() for row in range(5)}
        self.by_main_thread: list[bool] = []

    def read_image(self, origin: Sequence[int], size: Sequence[int]) -> Bytes:
        self.by_main_thread.append(threading.current_thread() is threading.main_thread())
        self.read[origin[0]].set()
        if self.damaged and origin[0] == 1:
            raise UserError("damaged")
        return np.full(tuple(size), origin[0], np.uint8)

    def sweep(self) -> SweepDataset:
        sweep = Sweep((Grid((5, 3), (1, 3)),), (RowSpan(0, 0, 5),), 1)
        return SweepDataset(cast("list[MosaicView]", [self]), sweep, "m")


def test_sweeps_give_batches_in_any_order() -> None:
    dataset = WatchedMosaic().sweep()
    asked = [0, 1, 2, 4, 3, 0, 4]
    assert [int(dataset[index]["image"].max()) for index in asked] == asked


def test_the_next_batch_is_read_ahead() -> None:
    mosaic = WatchedMosaic()
    dataset = mosaic.sweep()
    dataset[0]
    assert mosaic.read[1].wait(10), "the next batch is read without being asked for"
    assert not mosaic.read[2].is_set(), "and no more than that"
    for index in range(1, 5):
        dataset[index]
    assert mosaic.by_main_thread == [True, False, False, False, False]


def test_errors_are_raised_at_their_batch() -> None:
    dataset = WatchedMosaic(damaged=True).sweep()
    dataset[0]
    with pytest.raises(UserError, match="damaged"):
        dataset[1]
    assert int(dataset[2]["image"].max()) == 2


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others) > 3
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            found, expected = (torch.as_tensor(cast("dict[str, Tensor]", batch)[key]) for batch in (one, other))
            assert torch.equal(found, expected), key


def test_an_empty_sweep_is_one_empty_batch(written: Written) -> None:
    mosaics, _ = written
    grids = tuple(Grid(mosaic.shape, (16, 16)) for mosaic in mosaics)
    data = SweepDataset(mosaics, Sweep(grids, (), 2), "membrane")
    assert len(data) == 1
    batch = data[0]
    assert batch["image"].shape == (0, 1, 16, 16)
    assert batch["origin"].shape == (0, 2)
    assert len(batch["index"]) == 0


# Two chunks of 512 px wide.
WIDE, SMALL = (64, 700), (64, 64)
LEFT, ACROSS, RIGHT, OTHER = Patch(0, (0, 10), 4), Patch(0, (16, 500), 5), Patch(0, (3, 600), 6), Patch(1, (0, 0), 7)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def fresh(store: Path) -> tuple[list[MosaicView], list[tuple[Bytes, Bytes]]]:
    pixels = write_random(store, {"train/a": WIDE, "train/b": SMALL})
    return views(store), list(pixels.values())


def _damage_right_chunk(store: Path, pixels: Bytes, array: str) -> None:
    (shard,) = (path for path in (store / "train" / "a" / array / "c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    # Images are stored as they are, so that a row of the second chunk can be found.
    content[content.index(pixels[5, 520:690].tobytes())] ^= 1
    shard.write_bytes(content)


def test_only_patches_on_damaged_chunks_are_left_out(fresh: Written, store: Path) -> None:
    mosaics, pixels = fresh
    patches = [ACROSS, LEFT, RIGHT, OTHER]
    _damage_right_chunk(store, pixels[0][0], "0")
    with pytest.warns(UserWarning, match=r"at \(\d+, \d+\) of train/a is left out: .*is damaged in region") as caught:
        batch = PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__(patches)
    assert len(caught) == 2
    assert batch["index"].tolist() == [5, 4, 6, 7]
    assert batch["origin"].tolist() == [list(patch.origin) for patch in patches]
    assert batch["mosaic"].tolist() == [0, 0, 0, 1]
    for number, patch in enumerate(patches):
        left_out = patch in (ACROSS, RIGHT)
        shown = LEFT if left_out else patch
        y, x = shown.origin
        image, mask = (array[y : y + 32, x : x + 32] for array in pixels[shown.mosaic])
        np.testing.assert_array_equal(batch["image"][number, 0].numpy(), image)
        np.testing.assert_array_equal(batch["mask"][number].numpy(), np.full((32, 32), 255) if left_out else mask)


def test_missing_labels_are_left_out_too(fresh: Written, store: Path) -> None:
    mosaics, _ = fresh
    (label,) = (store / "train" / "a" / "labels").glob("*/0/c")
    shutil.rmtree(label)
    with pytest.warns(UserWarning, match="is missing in region"):
        batch = PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__([LEFT, OTHER])
    assert [bool((mask == 255).all()) for mask in batch["mask"]] == [True, False]


def test_whole_stores_give_what_they_always_give(fresh: Written) -> None:
    mosaics, _ = fresh
    patches = [OTHER, RIGHT, LEFT]
    expected, found = (
        PatchDataset(mosaics, (32, 32), skip_damaged=skip).__getitems__(patches) for skip in (False, True)
    )
    assert expected.keys() == found.keys()
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])  # type: ignore[literal-required]


@pytest.mark.filterwarnings("ignore:the patch at")
def test_a_wholly_damaged_batch_ends_the_run(fresh: Written, store: Path) -> None:
    mosaics, pixels = fresh
    _damage_right_chunk(store, pixels[0][0], "0")
    with pytest.raises(UserError, match=r"no patch of a batch could be read.*\(train/a\).*data verify"):
        PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__([ACROSS, RIGHT])


def test_a_store_that_has_gone_is_not_skipped(fresh: Written, store: Path) -> None:
    mosaics, _ = fresh
    shutil.rmtree(store / "train" / "a")
    with pytest.raises(UserError, match="has gone since this run opened it"):
        PatchDataset(mosaics, (32, 32), skip_damaged=True).__getitems__([LEFT, OTHER])


def test_data_modules_skip_damage_when_asked(tiny_store: Path) -> None:
    for choice, skipped in (("stop", False), ("skip", True)):
        data = Mosaic(str(tiny_store), patch_size=64, patches_per_epoch=2, on_damage=choice)  # type: ignore[arg-type]
        data.setup("fit")
        dataset = data.train_dataloader().dataset
        assert isinstance(dataset, PatchDataset)
        assert dataset.skip_damaged == skipped
