"""The data module as a user meets it: loaders, epochs, seeds, and every mistake refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import zarr

from data_modules.augment.images import Augment
from data_modules.augment.volumes import VolumeAugment
from data_modules.batch import Batch
from data_modules.errors import UserError, check_fractions, check_positive
from data_modules.isbi2012 import ISBI2012
from data_modules.mosaic import Mosaic, check_foreground, check_sizes
from data_modules.patches.sampling import GridPatches
from data_modules.patches.splits import PatchSplit, RegionSplit
from data_modules.store import LabelInfo, MosaicStore, MosaicView, SampleWriter
from data_modules.urisc import URISC
from tests.support.store_checks import binary, noise, views, write_mosaic, write_random
from tests.support.trainers import attach_rank

SIZES: dict[str, tuple[int, ...]] = {
    "train/a": (96, 130),
    "train/b": (70, 64),
    "val/c": (80, 90),
    "test/d": (100, 70),
    "test/e": (20, 30),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "s"
    write_random(path, SIZES)
    return path


def module(store: Path, **changes: Any) -> Mosaic:
    settings: dict[str, Any] = {"patch_size": 32, "batch_size": 3, "patches_per_epoch": 10, "seed": 1} | changes
    return Mosaic(str(store), **settings)


def covered(batches: list[Batch], shapes: list[tuple[int, int]], tile: int) -> bool:
    seen = [np.zeros(shape, bool) for shape in shapes]
    for batch in batches:
        for mosaic, (y, x) in zip(batch["mosaic"].tolist(), batch["origin"].tolist(), strict=True):
            seen[mosaic][y : y + tile, x : x + tile] = True
    return all(part.all() for part in seen)


def test_loaders_without_a_trainer(store: Path) -> None:
    data = module(store)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [len(batch["image"]) for batch in batches] == [3, 3, 3, 1]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(10))
    data.setup("validate")
    (sweep,) = data.val_dataloader()
    assert covered(list(sweep), [(80, 90)], 32)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert covered(batches, [(100, 70), (20, 30)], 32)
    assert all("mask" not in batch for batch in batches)
    data.setup("predict")
    assert covered(list(data.predict_dataloader()), [(100, 70), (20, 30)], 32)


def test_prediction_needs_no_labels(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "s", "test/a", noise((40, 40)))
    data = module(tmp_path / "s")
    data.setup("predict")
    assert len(list(data.predict_dataloader())) > 0
    with pytest.raises(UserError, match=r"test/a has no label 'membrane'"):
        data.setup("test")


def test_tiles_of_evaluation_may_have_their_own_size(store: Path) -> None:
    data = module(store, tile_size=[48, 40], eval_batch_size=2, test_split="val", overlap=0.0)
    batches = list(data.test_dataloader())
    assert {tuple(batch["image"].shape[-2:]) for batch in batches} == {(48, 40)}
    assert [len(batch["image"]) for batch in batches] == [2, 1, 2, 1]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_sweep_every_shard_once(tmp_path: Path, world: int) -> None:
    """Rows are shared by whole shards of 2,048, so some of many ranks have nothing to do, and say so."""
    write_mosaic(tmp_path / "s", "test/a", noise((4200, 40)))
    rows = np.zeros(4200, int)
    for rank in range(world):
        data = attach_rank(module(tmp_path / "s", tile_size=512), rank, world)
        dataset: Any = data.predict_dataloader().dataset
        for span in dataset.sweep.spans:
            rows[span.start : span.stop] += 1
        assert len(list(data.predict_dataloader())) == len(dataset)
    assert (rows == 1).all()
    assert data.allow_zero_length_dataloader_with_multiple_devices


@pytest.mark.parametrize("world", [1, 2, 3, 9])
def test_ranks_share_the_tiles_of_the_cheap_validation(store: Path, world: int) -> None:
    found: dict[int, tuple[int, list[int]]] = {}
    for rank in range(world):
        data = attach_rank(module(store, split=PatchSplit(train=4, val=7)), rank, world)
        data.setup("fit")
        (loader,) = data.val_dataloader()
        batches = list(loader)
        assert len(batches) == len(loader) == max(1, -(-len(range(rank, 7, world)) // 3)), "a rank always has a step"
        for batch in batches:
            assert batch["image"].shape == (len(batch["index"]), 1, 32, 32)
            assert batch["mask"].shape == (len(batch["index"]), 32, 32)
            assert batch["origin"].shape == (len(batch["index"]), 2)
            places = zip(batch["mosaic"].tolist(), batch["origin"].tolist(), strict=True)
            assert not found.keys() & set(batch["index"].tolist())
            found |= dict(zip(batch["index"].tolist(), places, strict=True))
    assert sorted(found) == list(range(7))
    alone = module(store, split=PatchSplit(train=4, val=7))
    alone.setup("fit")
    whole = [
        place for batch in alone.val_dataloader()[0] for place in zip(batch["mosaic"], batch["origin"], strict=True)
    ]
    assert [found[number] for number in range(7)] == [(int(mosaic), origin.tolist()) for mosaic, origin in whole]


def test_the_leaking_split_validates_its_own_patches(store: Path) -> None:
    data = module(store, split=PatchSplit(train=20, val=7), tile_size=64)
    data.setup("fit")
    assert sum(len(batch["image"]) for batch in data.train_dataloader()) == 20
    (loader,) = data.val_dataloader()
    batches = list(loader)
    assert sum(len(batch["image"]) for batch in batches) == 7
    for batch in batches:
        assert batch["image"].shape[-2:] == (32, 32)
        assert (batch["mask"] != 255).all()


def test_the_sampling_knows_its_own_number(store: Path) -> None:
    data = module(store, sampling=GridPatches(0.0))
    data.setup("fit")
    assert sum(len(batch["image"]) for batch in data.train_dataloader()) == 3 * 5 + 3 * 2


def test_the_default_seed_is_the_runs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")
    assert module(store, seed=None).seed == 77
    assert module(store, seed=0).seed == 0
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert module(store, seed=None).seed == 0
    origins = []
    for seed in (77, 77, 78):
        data = module(store, seed=seed)
        data.setup("fit")
        origins.append(torch.cat([batch["origin"] for batch in data.train_dataloader()]).tolist())
    assert origins[0] == origins[1] != origins[2]


class Watcher(pl.LightningModule):
    """Learns nothing and writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, int, torch.dtype, list[int]]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append(("train", self.current_epoch, batch["image"].dtype, batch["origin"].flatten().tolist()))
        return batch["image"].float().mean() * self.weight

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        kind = "tiles" if "mask" in batch else "sweep"
        self.seen.append((kind, self.current_epoch, batch["image"].dtype, batch["origin"].flatten().tolist()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_full_validation_runs_every_nth_epoch(store: Path, tmp_path: Path) -> None:
    data = module(store, full_validation_every=2, augment=Augment(), val_tiles=4, patches_per_epoch=6)
    watcher = Watcher()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=5, num_sanity_val_steps=0, use_distributed_sampler=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(watcher, data)
    epochs = {kind: [epoch for k, epoch, *_ in watcher.seen if k == kind] for kind in ("train", "tiles", "sweep")}
    assert epochs["train"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert sorted(set(epochs["tiles"])) == [0, 1, 2, 3, 4]
    assert sorted(set(epochs["sweep"])) == [1, 3, 4], "every second epoch, and the last"
    assert len(epochs["sweep"]) % 3 == 0
    dtypes = {kind: {dtype for k, _, dtype, _ in watcher.seen if k == kind} for kind in epochs}
    assert dtypes == {"train": {torch.float32}, "tiles": {torch.uint8}, "sweep": {torch.uint8}}
    # New patches in every epoch, the same tiles in every validation.
    by_epoch = [[origin for k, e, _, o in watcher.seen if (k, e) == ("train", n) for origin in o] for n in range(5)]
    assert len({tuple(origins) for origins in by_epoch}) == 5
    tiles = [[o for k, e, _, o in watcher.seen if (k, e) == ("tiles", n)] for n in range(5)]
    assert tiles.count(tiles[0]) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": 1.0}, r"data\.overlap must be at least 0 and below 1, got 1\.0"),
        ({"overlap": -0.1}, r"data\.overlap"),
        ({"patch_size": 0}, r"data\.patch_size must be at least 1, got 0"),
        ({"patch_size": [32, -1]}, r"data\.patch_size must be at least 1, got \[32, -1\]"),
        ({"patch_size": []}, r"data\.patch_size"),
        ({"batch_size": 0}, r"data\.batch_size"),
        ({"patches_per_epoch": 0}, r"data\.patches_per_epoch"),
        ({"tile_size": 0}, r"data\.tile_size"),
        ({"eval_batch_size": -2}, r"data\.eval_batch_size"),
        ({"val_tiles": 0}, r"data\.val_tiles"),
        ({"patch_size": [32, 32, 32]}, r"data\.patch_size \[32, 32, 32\] has 3 values, but the mosaics have 2 axes"),
        ({"label": "mito"}, r"train/a has no label 'mito'; it has: membrane"),
        ({"foreground": ["mito"]}, r"'membrane' of train/a is binary"),
        ({"patch_size": 71}, r"1 training mosaics are smaller than a patch of \(71, 71\) px: train/b \(70, 64\)"),
        ({"split": RegionSplit(val_fraction=0.6)}, r"train/b: 64 px leave no room for a gap of 32 px"),
        ({"split": RegionSplit(val_fraction=0.3)}, r"train/b\[0:70, 0:13\] \(70, 13\)"),
        ({"split": PatchSplit("other")}, r"no split 'other'; it has: test, train, val"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_by_name(store: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(store, **changes).setup("fit")


def test_missing_and_empty_stores_are_refused(tmp_path: Path) -> None:
    for stage in ("fit", "validate", "test", "predict"):
        with pytest.raises(UserError, match=r"no store at .*nowhere"):
            module(tmp_path / "nowhere").setup(stage)
    zarr.open_group(tmp_path / "empty", mode="w", zarr_format=3)
    with pytest.raises(UserError, match=r"store .*empty holds no samples"):
        module(tmp_path / "empty").setup("fit")


def test_loaders_before_setup_are_refused(store: Path) -> None:
    for loaders in (module(store).train_dataloader, module(store).val_dataloader):
        with pytest.raises(UserError, match="not set up"):
            loaders()


def test_small_and_empty_mosaics_are_accepted_when_asked(tmp_path: Path) -> None:
    shape = (20, 40)
    write_mosaic(tmp_path / "s", "train/a", noise(shape), np.zeros(shape, np.uint8))
    write_mosaic(tmp_path / "s", "val/b", noise(shape), binary(shape))
    with pytest.raises(UserError, match=r"smaller than a patch.*train/a \(20, 40\)"):
        module(tmp_path / "s").setup("fit")
    with pytest.raises(UserError, match=r"no foreground at all in the masks of train/a"):
        module(tmp_path / "s", allow_small=True).setup("fit")
    data = module(tmp_path / "s", allow_small=True, allow_empty=True)
    data.setup("fit")
    for batch in data.train_dataloader():
        assert (batch["mask"] == 255).sum() == len(batch["mask"]) * 12 * 32
    module(tmp_path / "s").setup("validate")


def test_volumes_need_their_own_sizes_and_augmentation(tmp_path: Path) -> None:
    shape = (9, 40, 40)
    for key in ("train/a", "val/b"):
        write_mosaic(tmp_path / "s", key, noise(shape), binary(shape))
    with pytest.raises(UserError, match=r"data\.patch_size 32: mosaics of 3 axes need one value an axis"):
        module(tmp_path / "s").setup("fit")
    with pytest.raises(UserError, match=r"images\.Augment works on 2D patches, not on volumes.*VolumeAugment"):
        module(tmp_path / "s", patch_size=[4, 16, 16], augment=Augment()).setup("fit")
    with pytest.raises(UserError, match=r"VolumeAugment works on volumes, not on 2D patches: pass Augment"):
        module(tmp_path / "s", planes="xy", augment=VolumeAugment()).setup("fit")
    for accepted in ({"augment": VolumeAugment()}, {"planes": "xy", "patch_size": 16, "augment": Augment()}):
        module(tmp_path / "s", **{"patch_size": [4, 16, 16], **accepted}).setup("fit")
    data = module(tmp_path / "s", patch_size=[4, 16, 16])
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["image"].shape == (3, 1, 4, 16, 16)


def test_data_sets_choose_their_label_and_patch_size() -> None:
    labels = [URISC("s", annotation).label for annotation in ("final", "1st", "2nd")]
    assert labels == ["membrane", "membrane_1st", "membrane_2nd"]
    assert ISBI2012("s").patch_shape(2) == (512, 512)
    assert ISBI2012("s", patch_size=64).patch_shape(2) == (64, 64)
    assert Mosaic("s").patch_shape(2) == (1024, 1024)


def test_counts_and_sizes() -> None:
    check_positive(a=1, b=[1, 2], c=None)
    with pytest.raises(UserError, match=r"data\.b must be at least 1, got \[4, 0\]"):
        check_positive(a=1, b=[4, 0])


def test_fractions() -> None:
    check_fractions(a=0.0, b=0.999)
    for wrong in (1.0, -1e-9, float("nan")):
        with pytest.raises(UserError, match=r"data\.b must be at least 0 and below 1"):
            check_fractions(a=0.5, b=wrong)


def test_mosaics_of_patch_size_are_large_enough(tmp_path: Path) -> None:
    for number in range(7):
        write_mosaic(tmp_path / "s", f"train/m{number}", noise((8, 9)))
    mosaics = views(tmp_path / "s", label=None)
    check_sizes(mosaics, (8, 9), allowed=False)
    check_sizes(mosaics, (9, 9), allowed=True)
    with pytest.raises(UserError, match=r"7 training mosaics .* train/m0 \(8, 9\), .*--data\.allow_small") as caught:
        check_sizes(mosaics, (9, 9), allowed=False)
    assert "m4" in str(caught.value)
    assert "m5" not in str(caught.value), "a list of hundreds helps nobody"


def test_foreground_is_that_of_the_chosen_classes(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255]], np.uint8)
    with SampleWriter(tmp_path / "s", "train", "a", values.shape, (1, 1)) as sample:
        sample.image.write(values)
        sample.add_label("organelles", LabelInfo("classes", {0: "none", 1: "nucleus", 2: "vesicle"})).write(values)
        sample.add_label("empty", LabelInfo("binary")).write(values // 255 * np.uint8(255))
        sample.add_label("cells", LabelInfo("instances"), np.uint32).write(np.zeros((1, 3), np.uint32))

    def view(label: str | None, foreground: list[str | int] | None = None) -> list[MosaicView]:
        return [MosaicView.of(MosaicStore(tmp_path / "s").sample("train/a"), label, foreground or [])]

    check_foreground(view("organelles", ["nucleus", "vesicle"]), allowed=False)
    # Ids are not counted while writing, so nothing can be said about them; neither is there anything without a label.
    check_foreground(view("cells") + view(None), allowed=False)
    for mosaics in (view("organelles", ["vesicle"]), view("empty")):
        with pytest.raises(UserError, match=r"no foreground at all in the masks of train/a"):
            check_foreground(mosaics, allowed=False)
        check_foreground(mosaics, allowed=True)
