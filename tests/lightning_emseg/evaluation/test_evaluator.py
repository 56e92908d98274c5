"""Metrics of one foreground, made of every class against all else."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure
from sklearn.metrics import jaccard_score

from data_modules.errors import UserError
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.score_table import Row
from lightning_emseg.metrics.boundary.skeleton import skeleton_recall
from lightning_emseg.metrics.classes import CleftDistances, LabelledObjectsIoU, MosaicMetric, SkeletonRecall
from lightning_emseg.metrics.mosaic_pair import MosaicScore

Pixels = NDArray[np.uint8]
NAMES = ("background", "mito", "golgi")
NM = (40.0, 4.0, 4.0)


def measured(metric: MosaicMetric, truth: Pixels, predicted: Pixels) -> Row:
    return Evaluator(NAMES).measure({"": [metric]}, truth, predicted, 128, NM[-truth.ndim :])


def labelled_iou(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """By the objects of scikit-image; every pixel is known."""
    if not truth.any():
        return math.nan
    objects = measure.label(found, connectivity=found.ndim)
    kept = np.isin(objects, np.setdiff1d(objects[truth], 0))
    return float(jaccard_score(truth.ravel(), kept.ravel(), zero_division=0.0))


def cremi(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """By scipy's distances of all voxels; NaN or infinite as the metric has it."""
    if not truth.any() and not found.any():
        return math.nan
    if not truth.any() or not found.any():
        return math.inf
    to_truth, to_found = (ndimage.distance_transform_edt(~mask, NM[-truth.ndim :]) for mask in (truth, found))
    return float((to_truth[found].mean() + to_found[truth].mean()) / 2)


def mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


SIZES = st.one_of(st.tuples(st.integers(2, 12), st.integers(2, 12)), st.tuples(*[st.integers(2, 6)] * 3))


@example((12, 11), 0, 0.1, (1, 2))
@example((5, 6, 6), 1, 0.4, (1, 2))
@example((9, 9), 2, 0.3, (2,))
@given(SIZES, st.integers(0, 2**16), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([(0,), (1,), (2,), (1, 2)]))
def test_each_class_is_scored_against_all_else(
    shape: tuple[int, ...], seed: int, share: float, present: tuple[int, ...]
) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = (
        np.where(random.random(shape) < share, random.choice(kinds, shape), 0).astype(np.uint8)
        for kinds in ((1, 2), present)
    )
    for metric, column, reference in (
        (LabelledObjectsIoU(), "labelled_objects_iou", labelled_iou),
        (CleftDistances(), "cremi_score_nm", cremi),
    ):
        found = measured(metric, truth, predicted)
        expected = [reference(truth == value, predicted == value) for value in (1, 2)]
        for name, value in zip(("mito", "golgi", "mean"), [*expected, mean(expected)], strict=True):
            assert found[f"{name}_{column}"] == pytest.approx(value, rel=1e-5, nan_ok=True)
        assert set(found) == {f"{of}_{each}" for of in ("mean", "mito", "golgi") for each in metric.columns}


def test_ignored_pixels_are_ignored_in_every_class() -> None:
    truth = np.array([[1, 1, 255, 2, 2, 255]], np.uint8)
    predicted = np.array([[1, 1, 1, 2, 2, 0]], np.uint8)
    found = measured(LabelledObjectsIoU(), truth, predicted)
    assert (found["mito_labelled_objects_iou"], found["golgi_labelled_objects_iou"]) == (1, 1)


def test_the_mean_does_not_hide_the_worst() -> None:
    truth = np.array([[1, 1, 0, 0, 2]], np.uint8)
    predicted = np.array([[1, 1, 0, 0, 0]], np.uint8)
    found = measured(CleftDistances(), truth, predicted)
    assert found["mito_cremi_score_nm"] == 0
    assert found["golgi_cremi_score_nm"] == found["mean_cremi_score_nm"] == math.inf


def test_two_columns_of_one_name_are_refused() -> None:
    Evaluator(NAMES).check([LabelledObjectsIoU()])
    with pytest.raises(UserError, match="would be named axon_skeleton_recall, axon_skeleton_precision: rename"):
        Evaluator(["background", "axon", "axon_skeleton"]).check([SkeletonRecall(0.0, 0.0)])


def test_functions_and_classes_agree_on_volumes() -> None:
    truth = np.ones((2, 8, 8), np.uint8)
    for metric in (skeleton_recall(10.0, 40.0), SkeletonRecall(10.0, 40.0)):
        found = Evaluator().measure({"": [metric]}, truth, 255 * truth, 128, NM)
        assert list(found) == list(metric.columns)
        assert all(map(math.isnan, found.values()))


class Short(MosaicMetric):
    score = MosaicScore(("one", "two"), lambda pair: (1.0,))


def test_too_few_numbers_name_the_metric() -> None:
    truth = np.ones((4, 4), np.uint8)
    with pytest.raises(UserError, match=r"Short: its score returned 1 number\(s\) for the 2 column\(s\) one, two"):
        Evaluator().measure({"": [Short()]}, truth, truth, 128, NM[1:])
