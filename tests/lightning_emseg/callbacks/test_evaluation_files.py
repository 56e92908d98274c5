"""Score files agree with each other, and pictures with what they show."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.callbacks import ErrorMaps, Overlays, RunFolder, ScoreFiles
from tests.support import tiny


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


LEVEL = 100


def test_a_test_writes_the_errors_of_every_mosaic(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    module.threshold.fill_(LEVEL / 255)
    tiny.quiet_trainer(tmp_path, callbacks=[ErrorMaps()]).test(module, tiny.data_of(tiny_store), verbose=False)
    folder = tmp_path / "errors-test"
    entries = json.loads((folder / "index.json").read_text())["mosaics"]
    views = [MosaicView.of(sample, "membrane") for sample in MosaicStore(tiny_store).samples("test")]
    assert [entry["key"] for entry in entries] == [view.key for view in views]
    for entry, view in zip(entries, views, strict=True):
        truth = view.read_mask((0, 0), view.shape)
        predicted = tiny.known_map(view.read_image((0, 0), view.shape)) >= LEVEL
        pixels = entry["pixels"]
        assert pixels["tp"] == np.sum((truth == 1) & predicted)
        assert pixels["fp"] == np.sum((truth == 0) & predicted)
        assert pixels["fn"] == np.sum((truth == 1) & ~predicted)
        assert 0 <= pixels["fp_within_tolerance"] <= pixels["fp"]
        assert entry["threshold"] == pytest.approx(LEVEL / 255)
        sizes = {Image.open(folder / file).size for file in entry["files"].values()}
        assert sizes == {(view.shape[1], view.shape[0])}
    assert not (tmp_path / "maps").exists()


def test_a_fit_writes_none(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[ErrorMaps()])
    trainer.fit(tiny.GreyModule(), tiny.data_of(tiny_store, full_validation_every=1))
    assert not list(tmp_path.glob("errors-*"))
    assert not (tmp_path / "maps").exists()


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(UserError, match="tolerance_nm must be at least 0"):
        ErrorMaps(tolerance_nm=-1)
