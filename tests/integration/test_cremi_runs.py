"""Clefts in volumes: rejection, augmentation and a split by sections in one run, with windows scored whole."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import ndimage

from data_modules.augment.volumes import VolumeAugment
from data_modules.cremi import CREMI
from data_modules.patches.splits import SectionSplit
from lightning_emseg import cli
from lightning_emseg.callbacks import ErrorMaps, ScoreFiles
from lightning_emseg.metrics.classes import CleftDistances
from tests.support import tiny
from tests.support.cleft_store import SHAPE, SPLIT, make_store

LEAST = 1700


@pytest.fixture(scope="module")
def clefts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("clefts") / "c.zarr")


def config_of(store: Path, **data: Any) -> dict[str, Any]:
    augment = {"misaligned_probability": 0.5, "missing_probability": 0.1, "shift_px": 4}
    arguments = {
        "store": str(store),
        "patch_size": [8, 32, 32],
        "batch_size": 2,
        "patches_per_epoch": 4,
        "overlap": 0.0,
        "full_validation_every": 1,
        "sampling": {"class_path": "ForegroundPatches", "init_args": {"min_pixels": LEAST, "reject": 1.0}},
        "split": {"class_path": "SectionSplit", "init_args": SPLIT},
        "augment": {"class_path": "VolumeAugment", "init_args": augment},
        **data,
    }
    network = {"patch": [8, 32, 32], "widths": [8, 8]}
    metric = {"class_path": "CleftDistances"}
    return {
        "seed_everything": 1,
        "model": {"class_path": "UNet3D", "init_args": {**network, "metrics": [metric]}},
        "data": {"class_path": "CREMI", "init_args": arguments},
        "trainer": {
            "accelerator": "cpu", "devices": 1, "max_epochs": 1, "enable_progress_bar": False, "logger": False,
            "enable_model_summary": False, "num_sanity_val_steps": 0,
        },
    }  # fmt: skip


def lightning(verb: str, folder: Path, config: dict[str, Any], *more: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config-in.yaml").write_text(yaml.safe_dump(config))
    root = ["--trainer.default_root_dir", str(folder / "run")]
    cli.main([verb, "--config", str(folder / "config-in.yaml"), *root, *more])


def test_a_fit_rejects_augments_and_validates_whole_windows(
    clefts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmented: list[tuple[int, ...]] = []
    called = VolumeAugment.__call__

    def spy(self: VolumeAugment, batch: Any, seed: int, epoch: int) -> Any:
        assert all((mask == 1).sum() >= LEAST for mask in batch["mask"]), "others are rejected"
        augmented.append(tuple(batch["image"].shape))
        return called(self, batch, seed, epoch)

    monkeypatch.setattr(VolumeAugment, "__call__", spy)
    lightning("fit", tmp_path, config_of(clefts))
    assert augmented == [(2, 1, 8, 32, 32)] * 2, "two steps of two patches, and no augmented validation"
    scores = json.loads((tmp_path / "run" / "scores-validate.json").read_text())
    keys = [f"train/sample-{letter}[12:20, 0:48, 0:40]" for letter in "AB"]
    assert list(scores["mosaics"]) == keys
    for key in keys:
        mask = tiny.content(SHAPE, "AB".index(key[13]))[1][12:]
        row = scores["mosaics"][key]
        assert row["tp"] + row["fn"] == (mask == 1).sum()
        assert row["fp"] + row["tn"] == (mask == 0).sum()
        assert {"adgt_nm", "adf_nm", "cremi_score_nm"} <= set(row)
    out = tmp_path / "p.zarr"
    weights = ["--ckpt_path", str(tmp_path / "run" / "checkpoints" / "best.ckpt")]
    lightning("predict", tmp_path, config_of(clefts), *weights, "--writer.out", str(out))
    assert (out / "test" / "sample-C").is_dir()


def test_windows_in_z_are_scored_voxel_by_voxel(clefts: Path, tmp_path: Path) -> None:
    """Against a network whose map is known: counts, distances of clefts, and pictures of errors."""
    module = tiny.GreyModule(metrics=[CleftDistances()], threshold_criterion="fixed", blend="gaussian")
    data = CREMI(str(clefts), patch_size=[4, 16, 16], batch_size=3, split=SectionSplit(train=12, val=7), overlap=0.5)
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[ScoreFiles(), ErrorMaps()])
    trainer.validate(module, data, verbose=False)
    assert module.scores is not None
    assert not module.scores.partial
    for number, letter in enumerate("AB"):
        image, mask = (part[12:19] for part in tiny.content(SHAPE, number))
        row = module.scores.rows[f"train/sample-{letter}[12:19, 0:48, 0:40]"]
        truth, predicted, used = mask == 1, tiny.known_map(image) >= 128, mask != 255
        for name, cells in (("tp", truth & predicted), ("fp", ~truth & predicted), ("fn", truth & ~predicted)):
            assert row[name] == (cells & used).sum(), name
        true, found = truth & used, predicted & used
        distances = [ndimage.distance_transform_edt(~other, sampling=4.0) for other in (true, found)]
        assert row["adgt_nm"] == pytest.approx(distances[0][found].mean(), rel=1e-4)
        assert row["adf_nm"] == pytest.approx(distances[1][true].mean(), rel=1e-4)
    entries = json.loads((tmp_path / "errors-validate" / "index.json").read_text())["mosaics"]
    assert len(entries) == 2


def test_a_mistake_ends_a_run_with_a_sentence(clefts: Path, tmp_path: Path) -> None:
    sampling = {"class_path": "ForegroundPatches", "init_args": {"min_pixels": 9000}}
    with pytest.raises(
        SystemExit, match=r"data\.sampling\.min_pixels 9000 is more than a patch of \(8, 32, 32\) px has"
    ):
        lightning("fit", tmp_path, config_of(clefts, sampling=sampling))
