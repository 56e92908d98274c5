"""Callbacks around a run: its folder, prediction stores, pictures in loggers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_emseg.callbacks import Overlays, RunFolder, ScoreFiles
from lightning_emseg.callbacks.overlays import log_picture
from lightning_emseg.callbacks.run_folder import environment, git_state, make_room, put_aside
from tests.support import tiny


def test_earlier_runs_are_numbered(tmp_path: Path) -> None:
    assert put_aside(tmp_path, ("config.yaml",)) is None
    for number in (1, 2):
        (tmp_path / "config.yaml").write_text(str(number))
        (tmp_path / "notes.txt").write_text("stays")
        assert put_aside(tmp_path, ("config.yaml", "scores-*")) == tmp_path / "earlier" / str(number)
        assert (tmp_path / "earlier" / str(number) / "config.yaml").read_text() == str(number)
    assert (tmp_path / "notes.txt").is_file()


def test_resuming_keeps_checkpoints_and_trying_keeps_everything(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.csv").write_text("a")
    make_room(tiny.quiet_trainer(tmp_path, fast_dev_run=True), resumed=False)
    assert not (tmp_path / "earlier").exists()
    make_room(tiny.quiet_trainer(tmp_path), resumed=True)
    assert (tmp_path / "checkpoints").is_dir()
    assert (tmp_path / "earlier" / "1" / "metrics.csv").is_file()
    make_room(tiny.quiet_trainer(tmp_path), resumed=False)
    assert (tmp_path / "earlier" / "2" / "checkpoints").is_dir()


def test_environment_says_what_ran(tmp_path: Path) -> None:
    found = json.loads(json.dumps(environment()))
    assert {"started", "command", "seed", "git", "python", "cpu_count", "accelerators", "packages"} <= set(found)
    assert "pytorch-lightning" in {name.lower() for name in found["packages"]}
    assert git_state(tmp_path) is None


def test_score_files_agree(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[RunFolder(), ScoreFiles(), Overlays(tiles=2, side=48)])
    trainer.test(tiny.GreyModule(), tiny.data_of(tiny_store), verbose=False)
    scores = json.loads((tmp_path / "scores-test.json").read_text())
    with (tmp_path / "scores-test.csv").open(newline="") as file:
        rows = {row["mosaic"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(scores["mosaics"])
    for key, row in rows.items():
        assert {name: float(row[name]) for name in scores["mosaics"][key]} == scores["mosaics"][key]
        assert float(row["threshold"]) == scores["threshold"]
    assert (tmp_path / "environment-test.json").is_file()

    # The picture is the middle of the mosaic: image, truth, map, errors.
    picture = np.asarray(Image.open(tmp_path / "figures" / "test-test-m0.png"))
    image, _ = tiny.content((133, 97), 20)
    crop = image[(133 - 48) // 2 :, (97 - 48) // 2 :][:48, :48]
    np.testing.assert_array_equal(picture[-48:, :48, 0], crop)
    np.testing.assert_array_equal(picture[-48:, 2 * 54 : 2 * 54 + 48, 0], tiny.known_map(crop))
    assert not (tmp_path / "figures" / "test-test-m2.png").exists()


def test_pictures_go_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    logger = TensorBoardLogger(tmp_path)
    log_picture(logger, "validation", np.zeros((8, 9, 3), np.uint8), 7)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    (picture,) = events.Images("validation")
    assert (picture.step, picture.width, picture.height) == (7, 9, 8)


@pytest.mark.slow
def test_pictures_go_to_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
    log_picture(logger, "validation", np.zeros((8, 9, 3), np.uint8), 0)
    logger.experiment.finish()
    assert list(tmp_path.rglob("validation*.png"))
