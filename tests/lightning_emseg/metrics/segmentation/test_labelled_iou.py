"""IoU of labelled objects: closed forms, the published code's own steps, and its two limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage import measure

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.segmentation.labelled_iou import LabelledObjectsIoU, labelled_objects_iou

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


def test_an_object_that_touches_a_label_counts_as_a_whole() -> None:
    truth = box((20, 20), (slice(0, 4), slice(0, 4)))
    found = box((20, 20), (slice(3, 13), slice(3, 13)))
    # One shared pixel brings all 100 of the object.
    assert labelled_objects_iou(truth, found) == 1 / (16 + 100 - 1)


def test_corners_connect_an_object() -> None:
    truth = box((10, 10), (slice(0, 2), slice(0, 2)))
    found = box((10, 10), (slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 4)))
    assert labelled_objects_iou(truth, found) == 4 / 8


def test_in_a_volume_an_object_goes_on_in_other_sections() -> None:
    truth = box((4, 8, 8), (slice(0, 1), slice(0, 4), slice(0, 4)))
    found = box((4, 8, 8), (slice(0, 3), slice(0, 4), slice(0, 4)), (slice(0, 1), slice(6, 8), slice(6, 8)))
    assert labelled_objects_iou(truth, found) == 16 / 48


def test_a_missed_object_counts_as_missed() -> None:
    truth = box((10, 10), (slice(0, 2), slice(0, 2)), (slice(5, 8), slice(5, 8)))
    assert labelled_objects_iou(truth, box((10, 10), (slice(0, 2), slice(0, 2)))) == 4 / 13
    assert labelled_objects_iou(truth, np.zeros((10, 10), np.bool_)) == 0.0
    assert math.isnan(labelled_objects_iou(np.zeros((10, 10), np.bool_), truth))


def test_pixels_without_truth_do_not_count_but_objects_reach_across_them() -> None:
    truth = box((4, 12), (slice(0, 4), slice(0, 2)))
    found = box((4, 12), (slice(0, 4), slice(0, 10)))
    known = ~box((4, 12), (slice(0, 4), slice(4, 8)))
    # 8 shared of 8 + 8 false ones: two columns on either side of what is unknown.
    assert labelled_objects_iou(truth, found, known) == 8 / 24


@settings(max_examples=150, deadline=None)
@given(data=st.data(), shape=st.sampled_from([(9, 11), (4, 6, 5)]))
def test_it_is_what_the_objects_one_by_one_give(data: st.DataObject, shape: tuple[int, ...]) -> None:
    truth, found = (data.draw(arrays(np.bool_, shape)) for _ in range(2))
    if truth.any():
        value = labelled_objects_iou(truth, found)
        assert value == pytest.approx(reference(truth, found), abs=1e-12)
        # Never below the plain IoU, from which it differs by left-out objects only.
        assert value >= (truth & found).sum() / (truth | found).sum() - 1e-12


def test_the_metric_scores_at_the_threshold_and_at_one_half() -> None:
    truth = box((20, 20), (slice(0, 4), slice(0, 4))).astype(np.uint8)
    truth[19, 19] = 255
    probability = np.zeros((20, 20), np.uint8)
    probability[0:4, 2:6] = 200
    probability[0:4, 0:2] = 100
    probability[10:, 10:] = 255
    metric = LabelledObjectsIoU()
    metric.update(Comparison(truth, probability, 90, (4.0, 4.0)))
    row = dict(zip(metric.columns, metric.compute()[0].tolist(), strict=True))
    assert row == {"labelled_objects_iou": 16 / 24, "labelled_objects_iou_at_0.5": 8 / 24}
    empty = Comparison(np.zeros((20, 20), np.uint8), probability, 90, (4.0, 4.0))
    assert torch.isnan(torch.tensor(metric.row(empty))).all()


def test_a_volume_may_have_ignored_pixels() -> None:
    truth = np.zeros((3, 6, 6), np.uint8)
    truth[0, :2] = 1
    truth[:, 5] = 255
    probability = np.where(np.arange(6) < 4, 255, 0).astype(np.uint8)[None, None].repeat(3, 0).repeat(6, 1)
    # 8 shared, 12 true and 3 · 5 · 4 predicted and known.
    assert LabelledObjectsIoU().row(Comparison(truth, probability, 128, (40.0, 4.0, 4.0)))[0] == 8 / (12 + 60 - 8)
