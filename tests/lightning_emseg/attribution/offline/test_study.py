"""The offline study: its plan, its store, and its continuation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from data_modules.errors import UserError
from data_modules.store import MosaicView
from lightning_emseg.attribution.extent import AREA, Size
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.attribution.measurement import Setting
from lightning_emseg.attribution.method import BoundMethod
from lightning_emseg.attribution.network_copy import detached_copy
from lightning_emseg.attribution.offline.fields_store import FieldsStore, WindowResult
from lightning_emseg.attribution.offline.plan import Plan, earlier_plan, plan_of, read_plan, write_plan
from lightning_emseg.attribution.offline.sampling import by_outcome, choose_pixels, tiles_of
from lightning_emseg.attribution.offline.study import CURVE, read_study, run
from lightning_emseg.attribution.table import Row
from tests.support import linear_network
from tests.support.offline_views import CPU, SEED, make_views


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[MosaicView]:
    return make_views(tmp_path_factory.mktemp("offline"))


def test_store_returns_whole_fields(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    shape = (20, 24)
    boxes = [((0, 0), (5, 9)), ((15, 18), (5, 6)), ((3, 4), (9, 9)), ((12, 0), (8, 7))]
    fields = [
        Field((at, at), origin, random.normal(size=box).astype(np.float32), at + 0.1, -at - 0.2)
        for at, (origin, box) in enumerate(boxes)
    ]
    rows = tuple(
        Row("test/m", (at, at), (0, 0), name, at + 0.1, -at - 0.2, 0.3 * at, (Size(AREA, (9, at), 12.0, 480),))
        for at, name in enumerate(("TP", "", "TN", "FN"))
    )
    store = FieldsStore(tmp_path / "f.zarr")
    store.begin()
    store.write("w", WindowResult(rows, {}, {"seconds": 1.5}), fields, shape)
    assert store.read("w").rows == rows
    for at, field in enumerate(fields):
        found = store.read_field("w", at)
        assert (found.pixel, found.output, found.baseline_output) == (field.pixel, field.output, field.baseline_output)
        np.testing.assert_array_equal(found.whole(shape), field.whole(shape))
    stored = zarr.open_group(tmp_path / "f.zarr", mode="r")["w/fields"]
    assert isinstance(stored, zarr.Array)
    assert stored.shape == (4, 9, 9)
    assert not np.isnan(np.asarray(stored[:])).any()
    with pytest.raises(UserError, match="not finished"):
        store.read("other")


class Study:
    """A study of the linear network on three mosaics."""

    def __init__(self, views: list[MosaicView], folder: Path, check: int = 6, **options: Any) -> None:
        module = linear_network.LinearModule()
        self.network = detached_copy(module.network, 127.5, 127.5)
        self.setting, self.folder = Setting(views, "zero", CURVE, SEED), folder
        tiles = tiles_of(views, (32, 32), 0, 1, False)
        chosen = choose_pixels(self.network, self.setting, tiles, 128, by_outcome(60), CPU)
        self.method = IntegratedGradients(steps=4, baseline="zero", **options)
        self.plan = plan_of({"thresholds": CURVE, "method": "ig"}, chosen, check)
        folder.mkdir()
        write_plan(folder, self.plan, views)

    def bound(self) -> BoundMethod:
        return self.method.bind(self.network, 1)

    def run(self) -> None:
        run(self.plan, self.bound(), self.setting, self.folder, CPU)

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        root = zarr.open_group(self.folder / "fields.zarr", mode="r")
        return {f"{name}/{key}": np.asarray(array[:]) for name, group in root.groups() for key, array in group.arrays()}


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
    views: list[MosaicView], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Study(views, tmp_path / "whole")
    whole.run()
    cut = Study(views, tmp_path / "cut")
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
    study = Study(views, tmp_path / "s", check=12, reach=2)
    study.run()
    found = read_study(study.folder)
    store, errors = FieldsStore(study.folder / "fields.zarr"), []
    threshold = CURVE.index(0.01)
    for number, part in enumerate(study.plan.parts):
        place = part.chosen.place
        image = views[place.mosaic].read_image(place.origin, place.size).astype(np.float64)
        inside = views[place.mosaic].shape
        for at in part.checked:
            y, x = part.chosen.pixels[at]
            exact = linear_network.field_of(image, np.zeros_like(image), (y, x))
            exact = exact[: inside[0] - place.origin[0], : inside[1] - place.origin[1]]
            area = int((exact / np.abs(exact).max() > 0.01).sum())
            errors.append(store.read(study.plan.name(number)).rows[at].sizes[0].counts[threshold] / area - 1)
    accuracy = found.accuracy([0.01])
    assert accuracy is not None
    assert accuracy.pixels == 12
    assert accuracy.mean_error[0] > 0
    assert accuracy.mean_error[0] == pytest.approx(np.mean(np.abs(errors)))
    assert accuracy.largest_error[0] == pytest.approx(np.max(np.abs(errors)))


def test_without_checked_pixels_fields_are_exact(views: list[MosaicView], tmp_path: Path) -> None:
    study = Study(views, tmp_path / "s", check=0)
    study.run()
    found = read_study(study.folder)
    assert found.accuracy([0.01]) is None
    assert max(row.completeness_error for row in found.rows) < 1e-4


def test_plan_is_read_back_and_refuses_other_settings(views: list[MosaicView], tmp_path: Path) -> None:
    study = Study(views, tmp_path / "s")
    assert read_plan(study.folder) == study.plan
    same = {"method": "ig", "thresholds": CURVE}
    assert earlier_plan(study.folder, same, overwrite=False) == study.plan
    assert earlier_plan(tmp_path / "none", same, overwrite=False) is None
    # Nothing is lost as long as nothing was computed.
    assert earlier_plan(study.folder, {**same, "method": "other"}, overwrite=False) is None
    (study.folder / "fields.zarr" / study.plan.name(0)).mkdir(parents=True)
    with pytest.raises(UserError, match="method: 'ig' there, 'other' here"):
        earlier_plan(study.folder, {**same, "method": "other"}, overwrite=False)
    assert earlier_plan(study.folder, {**same, "method": "other"}, overwrite=True) is None
    (study.folder / "plan.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_plan(study.folder)
    assert earlier_plan(study.folder, same, overwrite=True) is None


def test_every_pixel_has_one_row(views: list[MosaicView], tmp_path: Path) -> None:
    study = Study(views, tmp_path / "s")
    study.run()
    found = read_study(study.folder)
    keys = [
        (views[part.chosen.place.mosaic].key, (part.chosen.place.origin[0] + y, part.chosen.place.origin[1] + x))
        for part in study.plan.parts
        for y, x in part.chosen.pixels
    ]
    assert [(row.mosaic, row.position) for row in found.rows] == keys
    assert len(set(keys)) == len(keys) == 60
    assert isinstance(found.plan, Plan)
