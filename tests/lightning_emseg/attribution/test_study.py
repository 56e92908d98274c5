"""Offline studies against closed forms, and their continuation after an interruption."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.store import MosaicView
from lightning_emseg.attribution.study import CURVE, read_study
from lightning_emseg.attribution.study_store import FieldsStore, StudyPlan
from tests.support import linear_network
from tests.support.offline_views import Study, make_views


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    return make_views(tmp_path_factory.mktemp("offline"))


@pytest.fixture(scope="module")
def whole(views: list[MosaicView], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished study; read only."""
    study = Study(views[:2], tmp_path_factory.mktemp("study") / "whole")
    study.run()
    return study


def test_linear_network_has_closed_form_fields(views: list[MosaicView], tmp_path: Path) -> None:
    study = Study(views, tmp_path / "s", exact=True)
    study.run()
    store = FieldsStore(tmp_path / "s" / "fields.zarr")
    for number, part in enumerate(study.plan.parts):
        place = part.chosen.place
        image = views[place.mosaic].read_image(place.origin, place.size).astype(np.float64)
        rows = store.read(study.plan.name(number)).rows
        for at, pixel in enumerate(part.chosen.pixels):
            y, x = pixel
            expected = linear_network.field_of(image, np.zeros_like(image), (y, x))
            field = store.read_field(study.plan.name(number), at).whole(image.shape)
            np.testing.assert_allclose(field, expected, atol=1e-5)
            assert rows[at].output - rows[at].baseline_output == pytest.approx(expected.sum(), abs=1e-4)
            assert rows[at].completeness_error < 1e-4


def test_interrupted_study_resumes_to_the_bit(
    views: list[MosaicView], whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Study(views[:2], tmp_path / "cut")
    write = FieldsStore.write
    calls: list[str] = []

    def interrupted(store: FieldsStore, name: str, *rest: Any) -> None:
        if len(calls) == 2:
            # Killed while the third window is being written.
            (store.path / f".{name}.partial").mkdir()
            raise KeyboardInterrupt
        calls.append(name)
        write(store, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FieldsStore, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cut.run()
    with pytest.raises(UserError, match="not finished"):
        read_study(cut.folder)
    kept = {name: (cut.folder / "fields.zarr" / name).stat().st_mtime_ns for name in calls}
    cut.run()
    assert {name: (cut.folder / "fields.zarr" / name).stat().st_mtime_ns for name in calls} == kept
    assert not list((cut.folder / "fields.zarr").glob(".*"))
    first, second = whole.arrays(), cut.arrays()
    assert first.keys() == second.keys()
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key], err_msg=key)
    one, other = read_study(whole.folder), read_study(cut.folder)
    assert (one.rows, one.differences) == (other.rows, other.differences)
    assert {tuple(window["reach_px"]) for window in other.windows} == {(2, 2)}


def test_checked_pixels_measure_the_fast_paths_error(views: list[MosaicView], tmp_path: Path) -> None:
    # Pixels that share a pass at a distance of 3 px are confused by a kernel of 5 px: the error is there to be seen.
    study = Study(views[:1], tmp_path / "s", check=12, reach=2)
    study.run()
    found = read_study(study.folder)
    store, errors = FieldsStore(study.folder / "fields.zarr"), []
    threshold = CURVE.index(0.01)
    for number, part in enumerate(study.plan.parts):
        place = part.chosen.place
        image = views[place.mosaic].read_image(place.origin, place.size).astype(np.float64)
        inside, rows = views[place.mosaic].shape, store.read(study.plan.name(number)).rows
        for at in part.checked:
            y, x = part.chosen.pixels[at]
            exact = linear_network.field_of(image, np.zeros_like(image), (y, x))
            exact = exact[: inside[0] - place.origin[0], : inside[1] - place.origin[1]]
            area = int((exact / np.abs(exact).max() > 0.01).sum())
            errors.append(rows[at].sizes[0].counts[threshold] / area - 1)
    accuracy = found.accuracy([0.01])
    assert accuracy is not None
    assert accuracy.pixels == 12
    assert accuracy.mean_error[0] > 0
    assert accuracy.mean_error[0] == pytest.approx(np.mean(np.abs(errors)))
    assert accuracy.largest_error[0] == pytest.approx(np.max(np.abs(errors)))


def test_without_checked_pixels_fields_are_exact(views: list[MosaicView], tmp_path: Path) -> None:
    study = Study(views[:2], tmp_path / "s", check=0)
    study.run()
    found = read_study(study.folder)
    assert found.accuracy([0.01]) is None
    assert max(row.completeness_error for row in found.rows) < 1e-4


def test_every_pixel_has_one_row(views: list[MosaicView], whole: Study) -> None:
    found = read_study(whole.folder)
    keys = [
        (views[part.chosen.place.mosaic].key, (part.chosen.place.origin[0] + y, part.chosen.place.origin[1] + x))
        for part in whole.plan.parts
        for y, x in part.chosen.pixels
    ]
    assert [(row.mosaic, row.position) for row in found.rows] == keys
    assert len(set(keys)) == len(keys) == 60
    assert isinstance(found.plan, StudyPlan)
