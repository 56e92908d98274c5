"""Mosaics as training sees them: windows, padding, and labels of any kind as one binary mask."""

import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.mosaic import Mosaic
from data_modules.store import LabelInfo, MosaicStore, MosaicView
from tests.support.store_checks import Pixels, noise, write_sample

SHAPE = (37, 53)
CLASSES = {0: "background", 1: "mitochondrion", 2: "vesicle", 5: "nucleus"}
HUGE = 2**60
"""Beyond 2**53 neighbouring ids are one and the same float64."""


def _pixels() -> dict[str, Pixels]:
    image, membrane = noise(SHAPE, 1), noise(SHAPE, 2, top=2)
    organelles = np.array([0, 1, 2, 5, 255], np.uint8)[noise(SHAPE, 3, top=5)]
    membrane[3:6, 10:20] = 255
    cells = np.array([0, 7, HUGE, HUGE + 1, 255], np.uint64)[noise(SHAPE, 4, top=5)]
    return {"image": image, "membrane": membrane, "organelles": organelles, "cells": cells}


PIXELS = _pixels()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("view") / "s"
    labels = {
        "membrane": (LabelInfo("binary"), PIXELS["membrane"]),
        "organelles": (LabelInfo("classes", CLASSES), PIXELS["organelles"]),
        "cells": (LabelInfo("instances"), PIXELS["cells"]),
    }
    write_sample(path, PIXELS["image"], labels)
    return path


def view(store: Path, label: str | None = "membrane", foreground: list[str | int] | None = None) -> MosaicView:
    return MosaicView.of(MosaicStore(store).sample("train/a"), label, foreground or [])


def whole(mosaic: MosaicView) -> Pixels:
    return mosaic.read_mask((0, 0), mosaic.shape)


_ORIGINS = st.tuples(st.integers(-90, 36), st.integers(-90, 52))
_SIZES = st.tuples(st.integers(1, 150), st.integers(1, 150))


def _sees_pixels(patch: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    return all(origin + side > 0 for origin, side in zip(*patch, strict=True))


def _padding(origin: tuple[int, int], size: tuple[int, int], shape: tuple[int, int]) -> list[tuple[int, int]]:
    return [(max(0, -o), max(0, o + s - side)) for o, s, side in zip(origin, size, shape, strict=True)]


@given(patches=st.lists(st.tuples(_ORIGINS, _SIZES).filter(_sees_pixels), min_size=5, max_size=5))
def test_patches_are_crops_of_the_mirrored_mosaic(
    store: Path, patches: list[tuple[tuple[int, int], tuple[int, int]]]
) -> None:
    """The reference pads the whole mosaic; the view reads and pads only what the patch needs."""
    mosaic = view(store)
    for origin, size in patches:
        check_patch(mosaic, origin, size)


def check_patch(mosaic: MosaicView, origin: tuple[int, int], size: tuple[int, int]) -> None:
    inside = tuple(slice(max(0, o), min(side, o + s)) for o, s, side in zip(origin, size, SHAPE, strict=True))
    pad = _padding(origin, size, SHAPE)
    np.testing.assert_array_equal(mosaic.read_image(origin, size), np.pad(PIXELS["image"][inside], pad, "symmetric"))
    expected = np.pad(PIXELS["membrane"][inside], pad, constant_values=255)
    np.testing.assert_array_equal(mosaic.read_mask(origin, size), expected)


def test_padding_mirrors_the_mosaic_as_numpy_does(store: Path) -> None:
    image = view(store).read_image((-10, -20), (37 + 30, 53 + 50))
    np.testing.assert_array_equal(image, np.pad(PIXELS["image"], [(10, 20), (20, 30)], "symmetric"))


def test_a_window_is_a_mosaic_of_its_own(store: Path) -> None:
    window = view(store).window((5, 10), (30, 40))
    assert window.shape == (25, 30)
    assert window.key == "train/a[5:30, 10:40]"
    np.testing.assert_array_equal(window.read_image((0, 0), (25, 30)), PIXELS["image"][5:30, 10:40])
    # Pixels beyond the window exist in the store, but must not be seen: they may belong to the other split.
    expected = np.pad(PIXELS["image"][5:30, 10:40], 3, "symmetric")
    np.testing.assert_array_equal(window.read_image((-3, -3), (31, 36)), expected)
    expected = np.pad(PIXELS["membrane"][5:30, 10:40], 3, constant_values=255)
    np.testing.assert_array_equal(window.read_mask((-3, -3), (31, 36)), expected)
    inner = window.window((1, 2), (20, 20))
    np.testing.assert_array_equal(inner.read_image((0, 0), inner.shape), PIXELS["image"][6:25, 12:30])
    assert window.key != inner.key


def test_binary_masks_keep_ignored_pixels(store: Path) -> None:
    np.testing.assert_array_equal(whole(view(store)), PIXELS["membrane"])
    np.testing.assert_array_equal(whole(view(store, foreground=[1])), PIXELS["membrane"])
    with pytest.raises(UserError, match=r"'membrane' of train/a is binary: leave out data\.foreground"):
        view(store, foreground=["mitochondrion"])


@pytest.mark.parametrize(
    ("foreground", "values"),
    [(["mitochondrion"], [1]), (["nucleus", "vesicle"], [5, 2]), ([5], [5]), (["vesicle", 1], [2, 1])],
)
def test_classes_become_foreground_by_name_or_value(
    store: Path, foreground: list[str | int], values: list[int]
) -> None:
    expected = np.isin(PIXELS["organelles"], values).astype(np.uint8)
    expected[PIXELS["organelles"] == 255] = 255
    mask = whole(view(store, "organelles", foreground))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)


def test_classes_need_a_foreground_that_exists(store: Path) -> None:
    with pytest.raises(UserError, match=r"'organelles' of train/a has classes \(background, mitochondrion"):
        view(store, "organelles")
    with pytest.raises(UserError, match=r"'organelles' of train/a has no class \['golgi', 3\]"):
        view(store, "organelles", ["golgi", "nucleus", 3])


def test_instances_are_foreground_all_or_by_id(store: Path) -> None:
    """255 is an id like any other here, so what lies outside is marked apart."""
    cells = PIXELS["cells"]
    np.testing.assert_array_equal(whole(view(store, "cells")), cells != 0)
    np.testing.assert_array_equal(whole(view(store, "cells", [7, 255])), np.isin(cells, [7, 255]))
    padded = view(store, "cells").read_mask((-2, 5), (SHAPE[0] + 5, SHAPE[1]))
    expected = np.pad((cells != 0).astype(np.uint8), [(2, 3), (0, 5)], constant_values=255)[:, 5:]
    np.testing.assert_array_equal(padded, expected)


def test_ids_beyond_float_precision_are_told_apart(store: Path) -> None:
    np.testing.assert_array_equal(whole(view(store, "cells", [HUGE])), PIXELS["cells"] == HUGE)


def test_a_mosaic_without_label_has_no_mask(store: Path) -> None:
    mosaic = view(store, None)
    np.testing.assert_array_equal(mosaic.read_image((0, 0), SHAPE), PIXELS["image"])
    with pytest.raises(UserError, match="train/a has no label"):
        whole(mosaic)


def test_views_travel_to_workers(store: Path) -> None:
    mosaic = view(store, "organelles", ["nucleus"])
    whole(mosaic)
    sent = pickle.dumps(mosaic)
    assert len(sent) < 2000, "paths and shapes, no pixels and no handles"
    np.testing.assert_array_equal(whole(pickle.loads(sent)), whole(mosaic))


def test_volumes(tmp_path: Path) -> None:
    image, mask = noise((6, 20, 20)), noise((6, 20, 20), top=2)
    write_sample(tmp_path / "s", image, {"membrane": (LabelInfo("binary"), mask)})
    mosaic = view(tmp_path / "s")
    np.testing.assert_array_equal(mosaic.read_image((2, 3, 4), (3, 5, 6)), image[2:5, 3:8, 4:10])
    expected = np.pad(mask, [(1, 1), (0, 0), (0, 0)], constant_values=255)
    np.testing.assert_array_equal(mosaic.read_mask((-1, 0, 0), (8, 20, 20)), expected)


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
