"""`emseg score` of several classes: scores of `lightning test`, by names, of stores and of label images."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from lightning_emseg.callbacks import PredictionWriter, ScoreFiles
from lightning_emseg.commands import main
from lightning_emseg.evaluation.pair_scores import FULL_PANEL
from tests.support import class_runs, tiny
from tests.support.class_bands import BandModule, data_of, known_classes, write_classes
from tests.support.class_runs import NAMES, VALUES
from tests.support.score_checks import error, run, save
from tests.support.tiny import Pixels

SIZES = {"test/a": ((60, 50), (4.0, 4.0)), "test/b": ((45, 70), (4.0, 4.0))}
LIST = "[background, mito, golgi]"
PREDICTED = {"checkpoint": "best.ckpt", "threshold": 0.5}


def store_of(path: Path) -> dict[str, tuple[Pixels, Pixels]]:
    return class_runs.make_store(path, SIZES)


def known(path: Path, **more: Any) -> dict[str, Pixels]:
    """A prediction by another numbering of the same names; returns the positions of its classes."""
    made = {}
    for number, (key, (shape, _)) in enumerate(SIZES.items()):
        image = class_runs.content(shape, number)[0]
        made[key] = known_classes(image)
        write_classes(path, key, image, made[key], {0: "background", 1: "golgi", 2: "mito"}, PREDICTED, **more)
    return made


def expected(predicted: Pixels, truth: Pixels) -> dict[str, float]:
    used = (truth != 255) & (predicted != 255)
    parts = precision_recall_fscore_support(truth[used], predicted[used], labels=[0, 1, 2], zero_division=1.0)
    row = {
        f"{of}_{score}": float(value)
        for score, values in zip(("precision", "recall", "f1"), parts, strict=False)
        for of, value in zip(NAMES, values, strict=True)
    }
    return row | {f"mean_{score}": (row[f"mito_{score}"] + row[f"golgi_{score}"]) / 2 for score in ("f1", "recall")}


def assert_scores(scores: Any, predicted: dict[str, Pixels], truth: dict[str, tuple[Pixels, Pixels]]) -> None:
    rows = list(scores["mosaics"].values())
    assert len(rows) == len(predicted)
    for row, (key, positions) in zip(rows, predicted.items(), strict=True):
        for name, value in expected(positions, truth[key][1]).items():
            assert row[name] == pytest.approx(value, abs=1e-12)
    assert scores["mean"]["mean_f1"] == pytest.approx(np.mean([row["mean_f1"] for row in rows]), abs=1e-12)


def test_scores_equal_lightning_test_to_the_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "s.zarr"
    store_of(store)
    metrics = [metric for metrics in FULL_PANEL.values() for metric in metrics]
    callbacks = [PredictionWriter(str(tmp_path / "p.zarr")), ScoreFiles()]
    module = BandModule(metrics=metrics, blend="gaussian")
    data = data_of(store, tile_size=32)
    trainer = tiny.quiet_trainer(tmp_path / "run", callbacks=callbacks)
    trainer.predict(module, data, return_predictions=False)
    tiny.quiet_trainer(tmp_path / "run", callbacks=callbacks).test(module, data, verbose=False)
    tested = json.loads((tmp_path / "run" / "scores-test.json").read_text())
    words = (tmp_path / "p.zarr", store, "--label", "organelles", "--panel", "full", "--classes")
    for classes in ("all", LIST):
        scores = run(capsys, *words, classes)
        for part in ("mosaics", "mean", "se", "f1_by_threshold", "threshold", "label"):
            assert scores[part] == tested[part], part
        assert list(scores["mosaics"]["test/a"]) == list(tested["mosaics"]["test/a"])
        assert scores["classes"] == list(NAMES)
    main(["score", *map(str, words), "all", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "scores.csv").read_text() == (tmp_path / "run" / "scores-test.csv").read_text()
    shown = capsys.readouterr().out
    for part in ("mito_iou", "\ngolgi ", "mean_v_rand", "mean ± SE", "classes as predicted"):
        assert part in shown
    assert "nan" not in shown


def test_labels_match_by_names_whatever_their_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, predicted = store_of(tmp_path / "s.zarr"), known(tmp_path / "p.zarr")
    words = (tmp_path / "p.zarr", tmp_path / "s.zarr", "--label", "organelles", "--classes")
    scores = run(capsys, *words, "all")
    assert_scores(scores, predicted, truth)
    other = run(capsys, *words, "[background, golgi, mito]")
    assert {key: dict(sorted(row.items())) for key, row in other["mosaics"].items()} == {
        key: dict(sorted(row.items())) for key, row in scores["mosaics"].items()
    }


def test_label_images_have_the_values_of_the_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, predicted = store_of(tmp_path / "s.zarr"), known(tmp_path / "p.zarr")
    for key, positions in predicted.items():
        save(tmp_path / "images" / f"{key[-1]}.png", np.array(VALUES, np.uint8)[positions])
        save(tmp_path / "wide" / f"{key[-1]}.tif", np.array(VALUES, np.int32)[positions])
    for folder in ("images", "wide"):
        words = (tmp_path / folder, tmp_path / "s.zarr", "--label", "organelles", "--classes", "all")
        assert_scores(run(capsys, *words), predicted, truth)


@pytest.mark.parametrize("from_store", [False, True])
def test_truth_images_hold_places_in_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], from_store: bool
) -> None:
    truth, predicted = store_of(tmp_path / "s.zarr"), known(tmp_path / "p.zarr")
    for key, (_, positions) in truth.items():
        save(tmp_path / "t" / f"{key[-1]}.png", positions)
        save(tmp_path / "q" / f"{key[-1]}.png", predicted[key])
    prediction = (tmp_path / "p.zarr", "--prediction-label", "organelles") if from_store else (tmp_path / "q",)
    scores = run(capsys, prediction[0], tmp_path / "t", *prediction[1:], "--classes", LIST)
    assert_scores(scores, predicted, truth)
    message = error(prediction[0], tmp_path / "t", *prediction[1:], "--classes", "[background, mito]")
    assert ("also has ['golgi']" if from_store else "a.png has the values [2], but the classes are") in message


def test_pixels_that_an_annotator_left_out_count_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = store_of(tmp_path / "s.zarr")
    for number, (key, (shape, _)) in enumerate(SIZES.items()):
        image = class_runs.content(shape, number)[0]
        positions = known_classes(image)
        positions[:20] = 255
        write_classes(tmp_path / "round.zarr", key, image, positions)
    words = (tmp_path / "round.zarr", tmp_path / "s.zarr", "--label", "organelles", "--classes", "all")
    assert "is no prediction of `lightning predict`: pass --prediction-label NAME" in error(*words)
    scores = run(capsys, *words, "--prediction-label", "organelles")
    left = {
        key: np.where(np.arange(len(p))[:, None] < 20, np.uint8(255), known_classes(i)) for key, (i, p) in truth.items()
    }
    assert_scores(scores, left, truth)
    assert any("px are marked as unknown and count nowhere" in note for note in scores["notes"])


def test_absent_classes_have_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    positions = class_runs.content((40, 50), 0)[1]
    positions[positions == 2] = 0
    save(tmp_path / "t.png", positions)
    save(tmp_path / "p.png", np.where(positions == 255, np.uint8(0), positions))
    scores = run(
        capsys, tmp_path / "p.png", tmp_path / "t.png", "--classes", LIST, "--panel", "full", "--pixel-size-nm", 4
    )
    row = scores["mosaics"]["p"]
    assert row["golgi_iou"] is None
    assert row["golgi_assd_nm"] is None
    assert (row["mean_iou"], row["mean_assd_nm"]) == (1, 0)
    assert "no truth has a pixel of golgi: scores that need some do not exist" in scores["notes"]


def test_one_class_can_be_scored_as_foreground(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = store_of(tmp_path / "s.zarr")
    words = (tmp_path / "s.zarr", "--label", "organelles")
    for key, (image, _) in truth.items():
        save(tmp_path / "p" / f"{key[-1]}.png", tiny.known_map(image))
    told = error(tmp_path / "p", *words)
    assert "has classes (background, mito, golgi): say which are foreground, e.g. --foreground" in told
    assert "with --classes all" in told
    scores = run(capsys, tmp_path / "p", *words, "--foreground", "[mito]", "--prediction-polarity", "bright")
    assert scores["mosaics"]["test/a"]["tp"] == np.sum(
        (tiny.known_map(truth["test/a"][0]) >= 128) & (truth["test/a"][1] == 1)
    )


def test_mistakes_are_named(tmp_path: Path) -> None:
    store_of(tmp_path / "s.zarr")
    known(tmp_path / "p.zarr")
    image, mask = tiny.content((60, 50), 0)
    tiny.write_sample(tmp_path / "binary.zarr", "test/a", image, mask)
    words = (tmp_path / "p.zarr", tmp_path / "s.zarr", "--label", "organelles", "--classes")
    for classes, message in (
        ("[background, mito]", "also has ['golgi'], where ['background', 'mito'] are scored"),
        (
            "[background, mito, golgi, nucleus]",
            "label 'organelles' of test/a in " + str(tmp_path / "s.zarr") + " lacks ['nucleus']",
        ),
        ("[background]", "name the background and at least one more class"),
        ("[mito, golgi, background]", "background has columns of its own"),
        ("[nothing, mean, golgi]", "mean has columns of its own"),
    ):
        assert message in error(*words, classes)
    more = ("--threshold", 0.5, "--foreground", "[mito]", "--official", "urisc", "--truth-polarity", "dark")
    assert "--foreground, --threshold, --official, --truth-polarity: for scores of one foreground" in error(
        *words, "all", *more
    )
    assert "is binary, so that it has no classes" in error(
        tmp_path / "p.zarr", tmp_path / "binary.zarr", "--classes", "all"
    )
    assert "--classes all takes the names from a truth store" in error(tmp_path, tmp_path, "--classes", "all")
    for name, pixels, message in (
        ("floats", np.zeros((60, 50), np.float32), "holds float32 values, but classes are whole numbers"),
        ("ids", np.full((60, 50), 300, np.int32), "has the values [300], but the classes are {0: 'background'"),
        ("signed", np.full((60, 50), -1, np.int32), "has the values [-1]"),
        ("unknown", np.full((60, 50), 255, np.uint8), "is ignored (255) wherever its truth is known"),
    ):
        file = save(tmp_path / name / "a.tif", pixels)
        shown = error(file.parent, *words[1:], "all")
        assert message in shown
        assert str(file) in shown


def test_missing_classes_are_named_with_their_side(tmp_path: Path) -> None:
    store_of(tmp_path / "s.zarr")
    image, positions = class_runs.content((60, 50), 0)
    write_classes(
        tmp_path / "p.zarr", "test/a", image, np.minimum(positions, 1), {0: "background", 1: "mito"}, PREDICTED
    )
    words = (tmp_path / "p.zarr", tmp_path / "s.zarr", "--label", "organelles", "--classes", "all")
    assert f"label 'organelles' of test/a in {tmp_path / 'p.zarr'} lacks ['golgi']" in error(*words)


def test_marked_predictions_are_not_scored(tmp_path: Path) -> None:
    store_of(tmp_path / "s.zarr")
    image, positions = class_runs.content((60, 50), 0)
    write_classes(tmp_path / "p.zarr", "test/a", image, positions, None, PREDICTED)
    words = (tmp_path / "p.zarr", tmp_path / "s.zarr", "--label", "organelles", "--classes", "all")
    assert f"{np.sum(positions == 255)} px that the network gave no finite value for" in error(*words)


def test_other_label_names_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = class_runs.make_store(tmp_path / "s.zarr", SIZES, label="final")
    predicted = known(tmp_path / "p.zarr")
    words = (tmp_path / "p.zarr", tmp_path / "s.zarr", "--label", "final", "--classes", "all")
    assert "has no label 'final': pass --prediction-label NAME to score one of its labels (organelles)" in error(*words)
    assert_scores(run(capsys, *words, "--prediction-label", "organelles"), predicted, truth)


def test_a_table_of_files_keeps_full_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_of(tmp_path / "s.zarr")
    known(tmp_path / "p.zarr")
    words = [str(tmp_path / "p.zarr"), str(tmp_path / "s.zarr"), "--label", "organelles", "--classes", "all"]
    scores = run(capsys, *words)
    main(["score", *words, "--out", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scores
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert float(row["golgi_recall"]) == scores["mosaics"][row["mosaic"]]["golgi_recall"]
