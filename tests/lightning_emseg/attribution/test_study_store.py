"""Plans come back from their file, and protect studies with other settings."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from data_modules.errors import UserError
from lightning_emseg.attribution.areas import AREA, FieldSize
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.points import ChosenPixels
from lightning_emseg.attribution.study_store import (
    FieldsStore,
    WindowResult,
    earlier_plan,
    make_plan,
    read_plan,
    write_plan,
)
from lightning_emseg.attribution.table import FieldRow
from lightning_emseg.attribution.windows import Place
from tests.support.offline_views import make_views

SETTINGS = {"method": "ig", "thresholds": (0.01, 0.1)}
CHOSEN = (
    ChosenPixels(Place(0, (0, 0), (32, 32)), ((1, 2), (30, 4)), ("TP", "TP")),
    ChosenPixels(Place(1, (8, 16), (32, 32)), ((3, 4), (5, 6), (7, 8)), ("FN", "TN", "")),
)


def test_plan_is_read_back_and_refuses_other_settings(tmp_path: Path) -> None:
    plan, folder = make_plan(SETTINGS, CHOSEN, check=3), tmp_path / "s"
    # The window with most outcomes is the first.
    assert [part.chosen for part in plan.parts] == [CHOSEN[1], CHOSEN[0]]
    assert sum(len(part.checked) for part in plan.parts) == 3
    folder.mkdir()
    write_plan(folder, plan, make_views(tmp_path))
    assert read_plan(folder) == plan
    assert earlier_plan(folder, SETTINGS, overwrite=False) == plan
    assert earlier_plan(tmp_path / "none", SETTINGS, overwrite=False) is None
    # Nothing is lost as long as nothing was computed.
    assert earlier_plan(folder, {**SETTINGS, "method": "other"}, overwrite=False) is None
    (folder / "fields.zarr" / plan.name(0)).mkdir(parents=True)
    with pytest.raises(UserError, match="method: 'ig' there, 'other' here"):
        earlier_plan(folder, {**SETTINGS, "method": "other"}, overwrite=False)
    assert earlier_plan(folder, {**SETTINGS, "method": "other"}, overwrite=True) is None
    (folder / "plan.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_plan(folder)
    assert earlier_plan(folder, SETTINGS, overwrite=True) is None


def test_store_returns_whole_fields(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    shape = (20, 24)
    boxes = [((0, 0), (5, 9)), ((15, 18), (5, 6)), ((3, 4), (9, 9)), ((12, 0), (8, 7))]
    fields = [
        Field((at, at), origin, random.normal(size=box).astype(np.float32), at + 0.1, -at - 0.2)
        for at, (origin, box) in enumerate(boxes)
    ]
    rows = tuple(
        FieldRow(
            "test/m", (at, at), (0, 0), name, at + 0.1, -at - 0.2, 0.3 * at, (FieldSize(AREA, (9, at), 12.0, 480),)
        )
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
