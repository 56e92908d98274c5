"""IoU of labelled objects: closed forms, the published code's own steps, and its two limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import measure

from lightning_emseg.metrics.classes import LabelledObjectsIoU
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.segmentation.scores import labelled_objects_iou

Mask = NDArray[np.bool_]


def box(shape: tuple[int, ...], *boxes: tuple[slice, ...]) -> Mask:
    mask = np.zeros(shape, np.bool_)
    for where in boxes:
        mask[where] = True
    return mask


def reference(truth: Mask, predicted: Mask) -> float:
    """Object after object, with the labels of scikit-image."""
    objects = measure.label(predicted, connectivity=predicted.ndim)
    kept = np.zeros_like(predicted)
    for number in range(1, objects.max() + 1):
        if (truth & (objects == number)).any():
            kept |= objects == number
    return float((kept & truth).sum() / (kept | truth).sum())


def test_objects_that_touch_no_label_are_left_out() -> None:
    truth = box((20, 20), (slice(0, 4), slice(0, 4)))
    found = box((20, 20), (slice(0, 4), slice(2, 6)), (slice(10, 20), slice(10, 20)))
    # 8 shared pixels of 16 + 16 − 8; the 100 others are elsewhere.
    assert labelled_objects_iou(truth, found) == 8 / 24


def test_objects_that_touch_a_label_count_whole() -> None:
    truth = box((20, 20), (slice(0, 4), slice(0, 4)))
    found = box((20, 20), (slice(3, 13), slice(3, 13)))
    # One shared pixel brings all 100 of the object.
    assert labelled_objects_iou(truth, found) == 1 / (16 + 100 - 1)


def test_corners_connect_an_object() -> None:
    truth = box((10, 10), (slice(0, 2), slice(0, 2)))
    found = box((10, 10), (slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 4)))
    assert labelled_objects_iou(truth, found) == 4 / 8


def test_objects_go_on_across_sections() -> None:
    truth = box((4, 8, 8), (slice(0, 1), slice(0, 4), slice(0, 4)))
    found = box((4, 8, 8), (slice(0, 3), slice(0, 4), slice(0, 4)), (slice(0, 1), slice(6, 8), slice(6, 8)))
    assert labelled_objects_iou(truth, found) == 16 / 48


def test_a_missed_object_counts_as_missed() -> None:
    truth = box((10, 10), (slice(0, 2), slice(0, 2)), (slice(5, 8), slice(5, 8)))
    assert labelled_objects_iou(truth, box((10, 10), (slice(0, 2), slice(0, 2)))) == 4 / 13
    assert labelled_objects_iou(truth, np.zeros((10, 10), np.bool_)) == 0.0
    assert math.isnan(labelled_objects_iou(np.zeros((10, 10), np.bool_), truth))


def test_objects_reach_across_pixels_without_truth() -> None:
    truth = box((4, 12), (slice(0, 4), slice(0, 2)))
    found = box((4, 12), (slice(0, 4), slice(0, 10)))
    known = ~box((4, 12), (slice(0, 4), slice(4, 8)))
    # 8 shared of 8 + 8 false ones: two columns on either side of what is unknown.
    assert labelled_objects_iou(truth, found, known) == 8 / 24


@example((20, 30), 0, 0.2, 0.3)
@example((5, 9, 10), 1, 0.05, 0.1)
@given(
    shape=st.sampled_from([(9, 11), (4, 6, 5)]),
    seed=st.integers(0, 2**16),
    true=st.sampled_from([0.05, 0.3, 0.7]),
    predicted=st.sampled_from([0.0, 0.1, 0.3, 0.9]),
)
def test_equals_a_loop_over_objects(shape: tuple[int, ...], seed: int, true: float, predicted: float) -> None:
    random = np.random.default_rng(seed)
    truth, found = random.random(shape) < true, random.random(shape) < predicted
    if truth.any():
        value = labelled_objects_iou(truth, found)
        assert value == pytest.approx(reference(truth, found), abs=1e-12)
        # Never below the plain IoU, from which it differs by left-out objects only.
        assert value >= (truth & found).sum() / (truth | found).sum() - 1e-12


def test_scores_at_the_threshold_and_at_one_half() -> None:
    truth = box((20, 20), (slice(0, 4), slice(0, 4))).astype(np.uint8)
    truth[19, 19] = 255
    probability = np.zeros((20, 20), np.uint8)
    probability[0:4, 2:6] = 200
    probability[0:4, 0:2] = 100
    probability[10:, 10:] = 255
    metric = LabelledObjectsIoU()
    row = dict(zip(metric.columns, metric.row(MosaicPair(truth, probability, 90, (4.0, 4.0))), strict=True))
    assert row == {"labelled_objects_iou": 16 / 24, "labelled_objects_iou_at_0.5": 8 / 24}
    empty = MosaicPair(np.zeros((20, 20), np.uint8), probability, 90, (4.0, 4.0))
    assert torch.isnan(torch.tensor(metric.row(empty))).all()


def test_a_volume_may_have_ignored_pixels() -> None:
    truth = np.zeros((3, 6, 6), np.uint8)
    truth[0, :2] = 1
    truth[:, 5] = 255
    probability = np.where(np.arange(6) < 4, 255, 0).astype(np.uint8)[None, None].repeat(3, 0).repeat(6, 1)
    # 8 shared, 12 true and 3 · 5 · 4 predicted and known.
    assert LabelledObjectsIoU().row(MosaicPair(truth, probability, 128, (40.0, 4.0, 4.0)))[0] == 8 / (12 + 60 - 8)
