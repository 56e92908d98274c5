"""Plans come back from their file, and protect studies with other settings."""

from pathlib import Path

import pytest

from data_modules.errors import UserError
from lightning_emseg.attribution.chosen import Chosen
from lightning_emseg.attribution.offline.plan import earlier_plan, plan_of, read_plan, write_plan
from lightning_emseg.attribution.windows import Place
from tests.support.offline_views import make_views

SETTINGS = {"method": "ig", "thresholds": (0.01, 0.1)}
CHOSEN = (
    Chosen(Place(0, (0, 0), (32, 32)), ((1, 2), (30, 4)), ("TP", "TP")),
    Chosen(Place(1, (8, 16), (32, 32)), ((3, 4), (5, 6), (7, 8)), ("FN", "TN", "")),
)


def test_plan_is_read_back_and_refuses_other_settings(tmp_path: Path) -> None:
    plan, folder = plan_of(SETTINGS, CHOSEN, check=3), tmp_path / "s"
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
