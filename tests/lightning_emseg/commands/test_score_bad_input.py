"""Mistakes that `emseg score` names, with the file and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.store import LabelInfo, SampleWriter
from lightning_emseg.commands import main
from tests.support import tiny
from tests.support.score_checks import error, folders, images, run, save


def test_sizes_that_differ(tmp_path: Path) -> None:
    prediction, truth = folders(tmp_path)
    save(truth / "s1.png", np.zeros((40, 50), np.uint8))
    message = error(prediction, truth)
    assert message.startswith("error: sizes differ")
    assert f"{prediction / 's1.png'} is 40 × 51 px" in message
    assert f"{truth / 's1.png'} is 40 × 50 px" in message


def test_no_common_names(tmp_path: Path) -> None:
    prediction, truth = folders(tmp_path)
    for name in images():
        (truth / f"{name}.png").rename(truth / f"expert-{name}.png")
    message = error(prediction, truth)
    assert "no common names" in message
    assert "has s0, s1;" in message
    assert "expert-s0, expert-s1" in message


def test_a_truth_that_is_ignored_everywhere(tmp_path: Path) -> None:
    image, _ = tiny.content((30, 40), 0)
    store = tmp_path / "s.zarr"
    tiny.write_sample(store, "test/a", image, np.full((30, 40), 255, np.uint8))
    save(tmp_path / "a.png", image)
    message = error(tmp_path / "a.png", store)
    assert "label 'membrane' of test/a" in message
    assert "ignored everywhere" in message


def test_truth_without_foreground_lacks_some_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prediction, truth = folders(tmp_path)
    save(truth / "s1.png", np.full((40, 51), 255, np.uint8))
    scores = run(capsys, prediction, truth)
    assert scores["mosaics"]["s1"]["membrane_average_precision"] is None
    assert scores["mosaics"]["s0"]["membrane_average_precision"] > 0
    assert scores["se"]["membrane_average_precision"] is None, "there is only one"
    assert any("s1.png has no foreground" in note for note in scores["notes"])
    main(["score", str(prediction), str(truth)])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("s1 "))
    assert row.split()[5] == "–"


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((40, 50), 1.5, np.float32), "values from 1.5 to 1.5, but probabilities are 0–1"),
        (np.full((40, 50), np.nan, np.float32), "has 2000 pixels that are NaN or infinite"),
        (np.repeat(np.arange(5, dtype=np.uint8)[None] * 9, 40, 0).repeat(10, 1), "seems to hold labels"),
        (np.arange(2000, dtype=np.int32).reshape(40, 50) * 99, "labels (numbers of more than 16 bits)"),
        (np.arange(2000).reshape(40, 50) % 2 == 0, "pass --prediction-polarity bright or dark"),
    ],
)
def test_predictions_that_are_none(tmp_path: Path, pixels: Any, message: str) -> None:
    _, truth = folders(tmp_path)
    name = save(tmp_path / "q" / "s0.tif", pixels)
    shown = error(tmp_path / "q", truth)
    assert str(name) in shown
    assert message in shown


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    prediction, truth = folders(tmp_path)
    file = truth / "s1.png"
    file.write_bytes(file.read_bytes()[:-40])
    message = error(prediction, truth)
    assert f"{file} cannot be read" in message
    (prediction / "s0.png").write_bytes(b"no image")
    assert f"{prediction / 's0.png'} cannot be read" in error(prediction, truth)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    prediction, truth = folders(tmp_path)
    assert f"{tmp_path / 'none'} does not exist" in error(tmp_path / "none", truth)
    assert f"no store at {tmp_path / 'none.zarr'}" in error(prediction, tmp_path / "none.zarr")
    (tmp_path / "empty").mkdir()
    assert "holds no" in error(prediction, tmp_path / "empty")


def test_options_are_checked_before_images_are_read(tmp_path: Path) -> None:
    prediction, truth = folders(tmp_path)
    file = truth / "s1.png"
    file.write_bytes(file.read_bytes()[:-40])
    assert "--threshold best: give a number" in error(prediction, truth, "--threshold", "best")
    assert f"--out {file} cannot be made" in error(prediction, truth, "--out", file)
    assert "is for stores" in error(prediction, truth, "--prediction-label", "membrane")


def test_marked_predictions_are_not_scored(tmp_path: Path) -> None:
    image, mask = tiny.content((30, 40), 0)
    tiny.write_sample(tmp_path / "s.zarr", "test/a", image, mask)
    provenance = {"checkpoint": "best.ckpt", "threshold": 0.5}
    with SampleWriter(tmp_path / "p.zarr", "test", "a", image.shape, (4.0, 4.0), provenance) as sample:
        label = sample.add_label("membrane", LabelInfo("binary"))
        sample.image.write(image)
        label.write(mask)
    message = error(tmp_path / "p.zarr", tmp_path / "s.zarr")
    assert "prediction test/a" in message
    assert "49 px that the network gave no finite value for" in message


def test_stores_that_disagree_on_the_pixel_size(tmp_path: Path) -> None:
    image, mask = tiny.content((30, 40), 0)
    tiny.write_sample(tmp_path / "s.zarr", "test/a", image, mask, pixel_size_nm=4)
    tiny.write_sample(tmp_path / "p.zarr", "test/a", image, mask, pixel_size_nm=8)
    words = (tmp_path / "p.zarr", tmp_path / "s.zarr", "--prediction-label", "membrane")
    assert "pixel sizes differ: (4.0, 4.0) nm in label 'membrane' of test/a" in error(*words)
    assert "--pixel-size-nm 0" in error(*words, "--pixel-size-nm", "0")


def test_classes_need_a_foreground(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = tiny.content((30, 40), 0)
    store = tmp_path / "s.zarr"
    with SampleWriter(store, "test", "a", image.shape, (4.0, 4.0)) as sample:
        label = sample.add_label("organelles", LabelInfo("classes", {0: "none", 1: "membrane", 2: "mitochondrion"}))
        sample.image.write(image)
        label.write(np.where(mask == 1, 2, mask).astype(np.uint8))
    save(tmp_path / "a.png", tiny.known_map(image))
    words = (tmp_path / "a.png", store, "--label", "organelles", "--prediction-polarity", "bright")
    assert "(none, membrane, mitochondrion): say which are foreground, e.g. --foreground" in error(*words)
    scores = run(capsys, *words, "--foreground", '["mitochondrion"]')
    row = scores["mosaics"]["test/a"]
    assert row["tp"] + row["fn"] == np.sum(mask == 1)
    assert row["tp"] == np.sum((tiny.known_map(image) >= 128) & (mask == 1))


def test_pixels_that_an_annotator_left_out_count_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, truth = tiny.content((30, 40), 0)
    store = tmp_path / "s.zarr"
    tiny.write_sample(store, "test/a", image, truth)
    annotated = (truth == 1).astype(np.uint8)
    annotated[:20, :] = 255
    save(tmp_path / "a.png", annotated)
    words = (tmp_path / "a.png", store, "--prediction-polarity", "bright")
    scores = run(capsys, *words)
    row = scores["mosaics"]["test/a"]
    left = truth[20:]
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (np.sum(left == 1), 0, 0, np.sum(left == 0))
    assert any(f"{np.sum(truth[:20] != 255)} px are marked as unknown" in note for note in scores["notes"])
    annotated[truth != 255] = 255
    annotated[truth == 255] = np.arange(np.sum(truth == 255)) % 2
    save(tmp_path / "a.png", annotated)
    assert "a.png is ignored (255) wherever its truth is known" in error(*words)
