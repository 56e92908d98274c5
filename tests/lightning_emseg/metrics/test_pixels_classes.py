"""Counts and scores of classes against scikit-learn."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from lightning_emseg.core.tables import json_text
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.metrics.classes import MosaicCounts
from lightning_emseg.metrics.pixels import by_class, class_confusion, class_scores, count_pixels, truth_histogram

Pixels = NDArray[np.uint8]
SCORERS: dict[str, Any] = {
    "f1": f1_score, "precision": precision_score, "recall": recall_score, "iou": jaccard_score
}  # fmt: skip
NAMES = ["cytoplasm", "mito", "golgi", "er", "lysosome"]


@st.composite
def pairs(draw: st.DrawFn, at_least: int = 0) -> tuple[Pixels, Pixels, int]:
    """Prediction, truth with ignored pixels, and the number of classes, of which some may be absent."""
    classes = draw(st.integers(2, 5))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6))
    present = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes))
    predicted = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from(present)))
    truth = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([*present, 255])))
    return predicted, truth, classes


def random_pair(seed: int, classes: int) -> tuple[Pixels, Pixels, int]:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, classes, (2, 8, 20), dtype=np.uint8)
    truth[random.random(truth.shape) < 0.1] = 255
    return predicted, truth, classes


@example(pair=random_pair(0, 2))
@example(pair=random_pair(1, 5))
@given(pair=pairs())
def test_counts_equal_scikit_learn(pair: tuple[Pixels, Pixels, int]) -> None:
    predicted, truth, classes = pair
    used = truth != 255
    found = class_confusion(predicted, truth, classes)
    assert found.dtype == np.int64
    if not used.any():
        assert not found.any()
        return
    np.testing.assert_array_equal(found, confusion_matrix(truth[used], predicted[used], labels=range(classes)))


@example(pair=random_pair(2, 2))
@example(pair=random_pair(3, 5))
@given(pair=pairs())
def test_scores_equal_scikit_learn(pair: tuple[Pixels, Pixels, int]) -> None:
    predicted, truth, classes = pair
    used = truth != 255
    names = NAMES[:classes]
    found = class_scores(class_confusion(predicted, truth, classes), names)
    assert len(found) == 4 * (classes + 1)
    for score, scorer in SCORERS.items():
        expected = []
        for value, name in enumerate(names):
            column = f"{'background' if value == 0 else name}_{score}"
            there, said = truth[used] == value, predicted[used] == value
            if not (there | said).any():
                assert math.isnan(found[column])
                continue
            # 1 where nothing could be found, as this package's scores of a foreground have it.
            assert found[column] == pytest.approx(scorer(there, said, zero_division=1.0), abs=1e-12)
            expected += [found[column]] if value else []
        if expected:
            assert found[f"mean_{score}"] == pytest.approx(np.mean(expected), abs=1e-12)
        else:
            assert math.isnan(found[f"mean_{score}"])


def test_an_example_by_hand() -> None:
    # Rows are the truth: class 1 has 4 pixels of which 3 are found, and 1 of the background is taken for it.
    counts = np.array([[10, 1, 0], [1, 3, 0], [0, 0, 0]])
    found = class_scores(counts, ["rest", "mito", "golgi"])
    assert (found["mito_f1"], found["mito_precision"], found["mito_iou"]) == (0.75, 0.75, 0.6)
    assert found["mito_recall"] == 0.75
    assert found["background_iou"] == pytest.approx(10 / 12)
    assert math.isnan(found["golgi_f1"])
    assert found["mean_iou"] == 0.6
    assert "rest_iou" not in found


def test_each_class_against_all_others() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (2, 4, 4))
    found = by_class(counts)
    for mosaic in range(2):
        for value in range(4):
            rest = [other for other in range(4) if other != value]
            of = counts[mosaic]
            assert found.tp[mosaic, value] == of[value, value]
            assert found.fp[mosaic, value] == of[rest, value].sum()
            assert found.fn[mosaic, value] == of[value, rest].sum()
            assert found.tn[mosaic, value] == of[np.ix_(rest, rest)].sum()


def test_ignored_pixels_may_be_predicted_as_anything() -> None:
    truth = np.array([0, 255, 1], np.uint8)
    assert class_confusion(np.array([0, 1, 1], np.uint8), truth, 2).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="none of 2 classes"):
        class_confusion(np.array([0, 0, 2], np.uint8), truth, 2)
    with pytest.raises(ValueError, match="none of 2 classes"):
        class_confusion(np.array([0, 0, 1], np.uint8), np.array([0, 2, 1], np.uint8), 2)
    with pytest.raises(ValueError, match="differ in shape"):
        class_confusion(np.zeros((1, 3), np.uint8), truth, 2)


@pytest.mark.parametrize("shape", [(3000, 3000), (9, 1000, 1100), (9_000_000,), (0, 5), (3, 4)])
def test_bands_add_up_to_the_whole(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(2)
    probability, truth = (random.integers(0, high, shape, dtype=np.uint8) for high in (256, 2))
    truth[random.random(shape) < 0.1] = 255
    np.testing.assert_array_equal(count_pixels(probability, truth), truth_histogram(probability, truth))
    found = probability % 3
    np.testing.assert_array_equal(count_pixels(found, truth, 3), class_confusion(found, truth, 3))


def test_counted_shapes_must_be_equal() -> None:
    for classes in (0, 2):
        with pytest.raises(ValueError, match="differ in shape"):
            count_pixels(np.zeros((2, 3), np.uint8), np.zeros((1, 3), np.uint8), classes)


def test_mosaics_are_counted_part_by_part() -> None:
    random = np.random.default_rng(1)
    metric = MosaicCounts(3, classes=4)
    whole: list[tuple[Pixels, Pixels]] = []
    for mosaic in range(2):
        predicted = random.integers(0, 4, (50, 30), dtype=np.uint8)
        truth = np.array([0, 1, 2, 3, 255], np.uint8)[random.integers(0, 5, (50, 30))]
        whole.append((predicted, truth))
        for start in range(0, 50, 13):
            rows = slice(start, start + 13)
            metric.update(mosaic, torch.from_numpy(predicted[rows]), torch.from_numpy(truth[rows]))
    counts, seen = metric.compute()
    for mosaic, (predicted, truth) in enumerate(whole):
        np.testing.assert_array_equal(counts[mosaic], class_confusion(predicted, truth, 4))
    assert not counts[2].any()
    assert seen.tolist() == [1500, 1500, 0]
    metric.reset()
    assert not metric.counts.any()


def test_absent_classes_are_left_out_of_means() -> None:
    counts = np.array([[[4, 0, 0], [0, 3, 1], [0, 1, 1]], [[4, 0, 0], [0, 2, 2], [0, 0, 0]]])
    evaluator = Evaluator(["background", "mito", "golgi"])
    table = evaluator.table(["val/a", "val/b"], counts, "organelles", 128, "the most probable class")
    assert list(table.rows) == ["val/a", "val/b"]
    assert table.rows["val/a"]["mean_iou"] == pytest.approx((3 / 5 + 1 / 3) / 2)
    # In b golgi is predicted where there is none, so that it is not absent.
    assert table.rows["val/b"]["golgi_iou"] == 0
    assert table.summary["mito_iou"].mean == pytest.approx((3 / 5 + 2 / 4) / 2)
    written: Any = json.loads(json_text(table.to_json()))
    assert written["threshold"] is None
    assert written["criterion"] == "the most probable class"


@pytest.mark.parametrize("names", [[], ["background"], ["a", "b", "a"], [str(number) for number in range(255)]])
def test_names_of_classes_are_several_and_different(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"model\.classes .*: name the background and at least one more class"):
        Evaluator(names)
