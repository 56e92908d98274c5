"""Fields of a study come back from their store."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from data_modules.errors import UserError
from lightning_emseg.attribution.extent import AREA, Size
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.offline.fields_store import FieldsStore, WindowResult
from lightning_emseg.attribution.table import Row


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
