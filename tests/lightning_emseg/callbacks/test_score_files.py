"""Score files agree with each other, and pictures with what they show."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from lightning_emseg.callbacks import Overlays, RunFolder, ScoreFiles
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
