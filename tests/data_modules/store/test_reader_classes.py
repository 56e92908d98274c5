"""Masks of several classes: positions in the order of names, and what is refused."""

import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.mosaic import Mosaic
from data_modules.store import LabelInfo, MosaicStore, MosaicView
from tests.support.store_checks import Pixels, noise, write_sample

CLASS_SHAPE = (31, 45)
CLASS_VALUES = {0: "background", 5: "nucleus", 2: "vesicle", 200: "mito"}
NAMES = ("background", "nucleus", "vesicle", "mito")
VALUES = np.array([0, 5, 2, 200, 255], np.uint8)


@pytest.fixture(scope="module")
def organelles() -> Pixels:
    return VALUES[noise(CLASS_SHAPE, 3, top=5)]


@pytest.fixture(scope="module")
def class_store(tmp_path_factory: pytest.TempPathFactory, organelles: Pixels) -> Path:
    path = tmp_path_factory.mktemp("classes") / "s"
    info = LabelInfo("classes", CLASS_VALUES)
    image = noise(CLASS_SHAPE, 1)
    strange = organelles.copy()
    strange[4, 5] = 7
    membrane = (organelles == 5).astype(np.uint8)
    labels = {
        "organelles": (info, organelles),
        "strange": (info, strange),
        "membrane": (LabelInfo("binary"), membrane),
        "cells": (LabelInfo("instances"), organelles.astype(np.uint32)),
    }
    write_sample(path, image, labels)
    return path


def class_view(class_store: Path, names: Sequence[str] = NAMES, label: str = "organelles") -> MosaicView:
    return MosaicView.of(MosaicStore(class_store).sample("train/a"), label, classes=names)


def positions(values: Pixels, names: Sequence[str]) -> Pixels:
    """By going through the names one after the other."""
    found = np.full(values.shape, 255, np.uint8)
    for value, name in CLASS_VALUES.items():
        found[values == value] = list(names).index(name)
    return found


def test_masks_have_positions_in_the_order_of_names(class_store: Path, organelles: Pixels) -> None:
    for names in itertools.permutations(NAMES):
        mask = class_view(class_store, names).read_mask((0, 0), CLASS_SHAPE)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, positions(organelles, names))
        assert set(np.unique(mask)) == {0, 1, 2, 3, 255}


def test_windows_keep_classes_and_ignore_outside(class_store: Path, organelles: Pixels) -> None:
    expected = positions(organelles, NAMES)
    np.testing.assert_array_equal(
        class_view(class_store).read_mask((-2, -3), (36, 51)), np.pad(expected, ((2, 3), (3, 3)), constant_values=255)
    )
    window = class_view(class_store).window((3, 4), (20, 30))
    inside = np.pad(expected[3:20, 4:30], 2, constant_values=255)
    np.testing.assert_array_equal(window.read_mask((-2, -2), (21, 30)), inside)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(window)).read_mask((-2, -2), (21, 30)), inside)


def test_all_classes_but_the_first_are_foreground(class_store: Path) -> None:
    assert sorted(class_view(class_store).foreground) == [2, 5, 200]
    assert sorted(class_view(class_store, ("nucleus", "background", "mito", "vesicle")).foreground) == [0, 2, 200]


def test_values_outside_the_classes_are_refused(class_store: Path, organelles: Pixels) -> None:
    strange = class_view(class_store, label="strange")
    np.testing.assert_array_equal(strange.read_mask((6, 0), (25, 45)), positions(organelles[6:], NAMES))
    with pytest.raises(UserError, match=r"strange.* has the values \[7\], which are no class of it"):
        strange.read_mask((0, 0), CLASS_SHAPE)


@pytest.mark.parametrize(
    "names",
    [NAMES[:3], (*NAMES, "golgi"), (*NAMES[:3], "golgi"), (*NAMES, "mito"), ("background", "nucleus", "mito", "mito")],
)
def test_all_classes_are_named_once(class_store: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"'organelles' of train/a has the classes \['background', .*name all of them"):
        class_view(class_store, names)


@pytest.mark.parametrize(("label", "kind"), [("membrane", "binary"), ("cells", "instances")])
def test_labels_without_classes_are_refused(class_store: Path, label: str, kind: str) -> None:
    with pytest.raises(UserError, match=rf"'{label}' of train/a is {kind}, .*leave out data\.classes"):
        class_view(class_store, label=label)


def test_classes_and_a_foreground_exclude_each_other(class_store: Path) -> None:
    with pytest.raises(UserError, match=r"data\.foreground makes one foreground.*pass one of them"):
        Mosaic(str(class_store), label="organelles", foreground=["mito"], classes=list(NAMES))
    for few in ([], ["background"]):
        with pytest.raises(UserError, match=r"data\.classes must name the background and 1 to 253 more"):
            Mosaic(str(class_store), label="organelles", classes=few)
