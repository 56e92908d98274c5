"""The command `emseg score` on images, folders and stores."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from data_modules.store import LabelInfo, SampleWriter
from lightning_emseg.callbacks import PredictionWriter, ScoreFiles
from lightning_emseg.commands import main
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny
from tests.support.score_checks import assert_scores, error, expected, folders, images, run, save


def test_folders_against_scikit_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = run(capsys, *folders(tmp_path), "--threshold", 0.4)
    assert_scores(scores, 102)
    assert list(scores["mosaics"]) == ["s0", "s1"]
    assert scores["polarity"] == {"prediction": "bright", "truth": "dark"}


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_tiffs_of_other_types_score_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: type) -> None:
    folders(tmp_path)
    for name, (probability, _) in images().items():
        scaled = probability * 257.0 if dtype is np.uint16 else probability / 255
        save(tmp_path / "q" / f"{name}.tif", scaled.astype(dtype))
    assert_scores(run(capsys, tmp_path / "q", tmp_path / "t"), 128)


def test_inverted_predictions_score_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders(tmp_path)
    for name, (probability, _) in images().items():
        save(tmp_path / "q" / f"{name}.png", 255 - probability)
    scores = run(capsys, tmp_path / "q", tmp_path / "t", "--prediction-polarity", "dark")
    assert_scores(scores, 128)
    assert "prediction: membranes are dark (given)" in scores["notes"]
    assert any(note.startswith("truth: membranes are dark (detected: 79") for note in scores["notes"])


def test_level_128_counts_as_bright(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[:2] = 255
    save(tmp_path / "p.png", np.where(truth, 128, np.arange(30)).astype(np.uint8))
    save(tmp_path / "t.png", truth)
    scores = run(capsys, tmp_path / "p.png", tmp_path / "t.png")
    assert any(note.startswith("prediction: membranes are bright (detected: 10.0%") for note in scores["notes"])
    assert scores["mean"]["membrane_f1"] == 1


def test_one_image_against_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probability, truth = images()["s0"]
    save(tmp_path / "net.png", probability)
    save(tmp_path / "expert.tif", truth.astype(np.uint8))
    scores = run(capsys, tmp_path / "net.png", tmp_path / "expert.tif")
    assert list(scores["mosaics"]) == ["net"]
    assert scores["se"]["membrane_f1"] is None
    assert scores["mean"]["membrane_f1"] == pytest.approx(expected(probability, truth, 128)["membrane_f1"], abs=1e-12)


def test_pages_of_a_stack_against_an_hdf5_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = {name: (p[:, :50], t[:, :50]) for name, (p, t) in images().items()}
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["volume/map"] = np.stack([p for p, _ in made.values()]) / 255
    save(tmp_path / "t.tif", np.stack([t for _, t in made.values()]).astype(np.uint8))
    scores = run(capsys, f"{tmp_path / 'p.h5'}:volume/map", tmp_path / "t.tif")
    assert_scores(scores, 128, made)
    assert list(scores["mosaics"]) == ["p-000", "p-001"]


def test_binary_predictions_need_no_threshold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prediction, truth = folders(tmp_path)
    for name, (probability, _) in images().items():
        save(prediction / f"{name}.png", (probability >= 150).astype(np.uint8))
    scores = run(capsys, prediction, truth)
    found = [expected(p, t, 150)["membrane_f1"] for p, t in images().values()]
    assert [row["membrane_f1"] for row in scores["mosaics"].values()] == pytest.approx(found, abs=1e-12)
    assert scores["criterion"] == "the predictions are binary, so it does not matter"


def test_sweep_takes_the_best_mean_f1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = run(capsys, *folders(tmp_path), "--threshold", "sweep")

    def f1(probability: NDArray[np.uint8], truth: NDArray[np.bool_], level: int) -> float:
        found = probability >= level
        return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))

    curve = [np.mean([f1(*each, level) for each in images().values()]) for level in range(1, 256)]
    assert scores["f1_by_threshold"]["mean_f1"][1:] == pytest.approx(curve, abs=1e-12)
    assert scores["mean"]["membrane_f1"] == pytest.approx(max(curve), abs=1e-12)


def test_annotation_rounds_score_against_the_final_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "s.zarr"
    made = {}
    for index in range(2):
        image, final = tiny.content((40 + index, 30), index)
        first = np.roll(final, 1, axis=0)
        first[first == 255] = 0
        with SampleWriter(store, "test", f"m{index}", image.shape, (4.0, 4.0)) as sample:
            writers = [sample.add_label(name, LabelInfo("binary")) for name in ("membrane", "membrane_round1")]
            for writer, pixels in zip((sample.image, *writers), (image, final, first), strict=True):
                writer.write(pixels)
        made[f"test/m{index}"] = (255 * first[final != 255], final[final != 255])
    scores = run(capsys, store, store, "--prediction-label", "membrane_round1")
    assert list(scores["mosaics"]) == list(made)
    assert_scores(scores, 128, made)
    message = error(store, store)
    assert "test/m0" in message
    assert "--prediction-label NAME to score one of them (membrane, membrane_round1)" in message


def test_a_folder_of_images_against_a_store(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, shape in enumerate(tiny.SPLITS["test"]):
        image, _ = tiny.content(shape, 20 + index)
        save(tmp_path / "p" / f"m{index}.png", tiny.known_map(image))
    words = (tmp_path / "p", tiny_store, "--split", "test", "--prediction-polarity", "bright")
    scores = run(capsys, *words)
    assert list(scores["mosaics"]) == ["test/m0", "test/m1", "test/m2"]
    assert list(run(capsys, *words, "--samples", '["m1"]')["mosaics"]) == ["test/m1"]
    assert "several m0, m1" in error(tmp_path / "p", tiny_store)
    assert "no label 'cell'" in error(tmp_path / "p", tiny_store, "--split", "test", "--label", "cell")


def test_table_files_and_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prediction, truth = folders(tmp_path)
    save(prediction / "lonely.png", images()["s0"][0])
    main(["score", str(prediction), str(truth), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "membrane_f1" in shown
    assert "mean ± SE" in shown
    assert "threshold 0.502 (default)" in shown
    assert "truth: membranes are dark (detected" in shown
    assert "not scored, predictions without a truth: lonely" in shown
    # A row is as long as its heading: columns are aligned, though names and numbers are not equally long.
    heading, *block = next(block for block in shown.split("\n\n") if "membrane_f1" in block).splitlines()
    assert len(block) == 3
    assert {len(line) for line in block} == {len(heading)}
    main(["score", str(prediction), str(truth), "--json"])
    printed = capsys.readouterr()
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert json.loads(printed.out) == scores
    assert "lonely" in printed.err
    assert scores["unmatched"] == {"prediction": ["lonely"], "truth": []}
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["membrane_f1"]) == scores["mosaics"][row["mosaic"]]["membrane_f1"], "full precision"


@pytest.fixture(scope="module")
def tested(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder with ``scores-test.json`` and predictions ``p.zarr``, of a network that sees its whole tile."""
    folder = tmp_path_factory.mktemp("run")
    module = VanillaUNet(base_channels=2, depth=1, blend="gaussian")
    module.threshold.fill_(0.37)
    module.threshold_source = "mean_f1 on validation"
    callbacks = [PredictionWriter(str(folder / "p.zarr")), ScoreFiles()]
    trainer = tiny.quiet_trainer(folder, callbacks=callbacks)
    trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
    trainer.save_checkpoint(folder / "last.ckpt", weights_only=True)
    tiny.quiet_trainer(folder, callbacks=callbacks).test(module, tiny.data_of(tiny_store), verbose=False)
    return folder


@pytest.mark.parametrize("threshold", ["", "run:{}", "run:{}/scores-test.json", "run:{}/last.ckpt"])
def test_scores_are_equal_to_the_bit(
    tested: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str], threshold: str
) -> None:
    expected = json.loads((tested / "scores-test.json").read_text())
    option = ("--threshold", threshold.format(tested)) if threshold else ()
    scores = run(capsys, tested / "p.zarr", tiny_store, *option)
    for part in ("mosaics", "mean", "se", "f1_by_threshold", "threshold", "label"):
        assert scores[part] == expected[part]
    assert scores["criterion"].startswith(expected["criterion"])


def test_files_are_those_of_a_test(tested: Path, tiny_store: Path, tmp_path: Path) -> None:
    main(["score", str(tested / "p.zarr"), str(tiny_store), "--split", "test", "--out", str(tmp_path)])
    assert (tmp_path / "scores.csv").read_text() == (tested / "scores-test.csv").read_text()
    expected = json.loads((tested / "scores-test.json").read_text())
    assert expected.keys() <= json.loads((tmp_path / "scores.json").read_text()).keys()


def test_predicted_masks_score_as_their_probability(
    tested: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_probability = run(capsys, tested / "p.zarr", tiny_store)
    by_mask = run(capsys, tested / "p.zarr", tiny_store, "--prediction-label", "membrane")
    assert by_mask["mean"]["membrane_f1"] == by_probability["mean"]["membrane_f1"]
