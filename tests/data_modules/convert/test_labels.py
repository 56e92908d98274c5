import json
from typing import Any

import numpy as np
import pytest

from data_modules.convert.labels import Foreground, LabelRule
from data_modules.errors import UserError
from tests.support.convert_checks import Pixels, object_mask

BRIGHT = LabelRule("binary", "bright")
SHAPE = (600, 50)


def _files(mask: Pixels) -> dict[str, Pixels]:
    """One mask as different programs save it: the object is bright."""
    noise = np.random.default_rng(0).integers(0, 9, mask.shape)
    edges = np.random.default_rng(1).random(mask.shape) < 0.005
    return {
        "1 bit": mask,
        "0 and 1": mask.astype(np.uint8),
        "0 and 255": mask.astype(np.uint8) * np.uint8(255),
        "16 bit": mask.astype(np.uint16) * np.uint16(65535),
        "255 in 16 bit": mask.astype(np.uint16) * np.uint16(255),
        "float": mask.astype(np.float32),
        "signed": mask.astype(np.int16) * np.int16(255),
        "jpeg noise": np.where(mask, 255 - noise, noise).astype(np.uint8),
        "antialiased": np.where(edges, np.where(mask, 160, 96), mask * 255).astype(np.uint8),
    }


@pytest.mark.parametrize("coding", list(_files(object_mask())))
@pytest.mark.parametrize("foreground", ["bright", "dark"])
def test_masks_of_every_coding_and_polarity(coding: str, foreground: Foreground) -> None:
    mask = object_mask(shape=SHAPE)
    label = LabelRule("binary", foreground).apply(_files(mask)[coding], "m.png")
    assert label.pixels.dtype == np.uint8
    np.testing.assert_array_equal(label.pixels, mask if foreground == "bright" else ~mask)
    assert label.record["foreground_fraction"] == pytest.approx(label.pixels.mean())
    assert label.record["foreground"] == foreground
    assert not label.notes
    json.dumps(label.record)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 64, 128, 192, 255], r"m.png is no binary mask: .* 5 values .*--kind classes.*--threshold"),
        ([0, 1, 2, 3], "4 values .*nothing at the other extreme"),
        ([0, 1, 255], "--ignore-value 255"),
        ([-1, 0, 1], "no binary mask"),
        ([0, 100000], "no binary mask"),
    ],
)
def test_undeclared_non_binary_masks_are_refused(values: list[int], message: str) -> None:
    pixels = np.random.default_rng(0).choice(values, SHAPE)
    with pytest.raises(UserError, match=message):
        BRIGHT.apply(pixels, "m.png")
    cut = LabelRule("binary", "bright", threshold=0.5).apply(pixels, "m.png")
    np.testing.assert_array_equal(cut.pixels, pixels > 0.5)


@pytest.mark.parametrize(
    ("value", "foreground", "side"),
    [(0, "bright", "background"), (255, "bright", "foreground"), (1, "dark", "background"), (0, "dark", "foreground")],
)
def test_a_mask_of_one_value_is_reported(value: int, foreground: Foreground, side: str) -> None:
    label = LabelRule("binary", foreground).apply(np.full((4, 4), value, np.uint8), "m.png")
    assert (label.pixels == (side == "foreground")).all()
    assert f"m.png is all {side}" in label.notes[0]


def test_ignored_values_become_255_and_decide_nothing() -> None:
    raw = np.array([[0, 1, 255], [7, 0, 1]], np.uint8)
    binary = LabelRule("binary", "dark", ignore_value=255).apply(np.where(raw == 7, 1, raw), "m.png")
    np.testing.assert_array_equal(binary.pixels, [[1, 0, 255], [0, 1, 0]])
    classes = LabelRule("classes", classes={0: "out", 1: "in", 255 - 1: "edge"}, ignore_value=7)
    np.testing.assert_array_equal(classes.apply(np.where(raw == 255, 254, raw), "m").pixels, [[0, 1, 254], [255, 0, 1]])


def test_undeclared_classes_are_listed() -> None:
    rule = LabelRule("classes", classes={0: "background", 1: "mitochondrion"})
    raw = np.array([[0, 1], [1, 0]], np.uint16)
    assert rule.apply(raw, "m.png").pixels.dtype == np.uint8
    assert rule.info.classes == {0: "background", 1: "mitochondrion"}
    with pytest.raises(UserError, match=r"m.png has values .*: 3, 300;"):
        rule.apply(np.array([[0, 3], [1, 300]], np.uint16), "m.png")


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (np.uint8, np.uint32),
        (np.int32, np.uint32),
        (np.float32, np.uint32),
        (np.uint64, np.uint64),
        (np.int64, np.uint64),
    ],
)
def test_instances_keep_their_ids(dtype: type[np.generic], stored: type[np.generic]) -> None:
    raw = np.array([[0, 7], [7, 200]]).astype(dtype)
    label = LabelRule("instances").apply(raw, "m.tif")
    assert label.pixels.dtype == stored
    np.testing.assert_array_equal(label.pixels, raw)


def test_values_that_are_no_ids_are_refused() -> None:
    for raw, message in [
        (np.array([[-1, 7]]), "negative"),
        (np.array([[0.5]]), "whole"),
        (np.array([[np.nan]]), "finite"),
    ]:
        with pytest.raises(UserError, match=message):
            LabelRule("instances").apply(raw, "m.tif")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--foreground dark or bright"),
        ({"kind": "classes"}, "needs --classes"),
        ({"kind": "classes", "classes": {255: "a"}}, "0 to 254"),
        ({"kind": "instances", "foreground": "dark"}, "for binary labels"),
        ({"kind": "instances", "ignore_value": 3}, "instances have no ignored"),
        ({"kind": "classes", "classes": {0: "a"}, "ignore_value": 0}, "also one of --classes"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelRule(**arguments)
