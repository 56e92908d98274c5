"""The attribution callback on networks of volumes, against the closed form."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.loggers import CSVLogger

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.attribution.integrated_gradients import IntegratedGradients
from lightning_emseg.callbacks import AttributionFields
from lightning_emseg.modules.cleftnet import CleftNet
from tests.support import linear_volume, tiny

THRESHOLDS = (0.01, 0.05, 0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear_volume.make_store(tmp_path_factory.mktemp("volumes") / "s.zarr", ("train", "val"))


def callback(**changes: Any) -> AttributionFields:
    options: dict[str, Any] = {"per_outcome": 2, "check": 2, "every_n_epochs": 1, "max_share": None, "windows": 2}
    return AttributionFields(
        **{"method": IntegratedGradients(steps=2, baseline="zero", exact=True), **options, **changes}
    )


def data_of(store: Path, patch: tuple[int, int, int]) -> Any:
    return tiny.data_of(store, label="cleft", patch_size=list(patch), overlap=0.0)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_validation_writes_volumes_of_the_closed_form(store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(window=[5, 20, 24])])
    trainer.validate(linear_volume.LinearVolumeModule(), data_of(store, (5, 20, 24)), verbose=False)
    views = {sample.key: MosaicView.of(sample, "cleft") for sample in MosaicStore(store).samples("val")}
    record = json.loads((tmp_path / "attribution" / "validate.json").read_text())
    windows = {window["mosaic"]: window for window in record["windows"]}
    rows = read(tmp_path / "attribution" / "points-validate.csv")
    assert {row["mosaic"] for row in rows} == set(views)
    for row in rows:
        origin, size = (np.array(windows[row["mosaic"]][key]) for key in ("origin_px", "size_px"))
        image = views[row["mosaic"]].read_image(tuple(origin), tuple(size)).astype(np.float64)
        pixel = np.array([int(row[f"{axis}_px"]) for axis in "zyx"]) - origin
        field = linear_volume.field_of(image, np.zeros_like(image), tuple(pixel.tolist()))
        for k in THRESHOLDS:
            assert float(row[f"S_{k:g}_nm3"]) == (field > k).sum() * 480
            assert float(row[f"S_xy_{k:g}_nm2"]) == (field > k).any(axis=0).sum() * 12
    pictures = sorted((tmp_path / "figures").glob("attribution-validate-*.png"))
    # One a window; a row a pixel, of one section of image, probability, truth and field, and of all of the field.
    assert len(pictures) == 2
    assert min(Image.open(pictures[0]).size) > 800


def test_fit_attributes_a_network_that_looks_everywhere(store: Path, tmp_path: Path) -> None:
    module = CleftNet(patch=(4, 16, 16), widths=(8, 8), voxel_nm=(40.0, 4.0, 4.0))
    logger = CSVLogger(tmp_path, name="", version="")
    method = IntegratedGradients(steps=50, baseline="zero")
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback(method=method)], logger=logger)
    trainer.fit(module, data_of(store, (4, 16, 16)))
    record = json.loads((tmp_path / "attribution" / "fit.json").read_text())
    # Windows are no larger than the patch, all of which has a say; so exact fields are complete only over all of it.
    assert {tuple(window["size_px"]) for window in record["windows"]} == {(4, 16, 16)}
    assert record["receptive_radius_px"] == {"4 × 16 × 16": None}
    assert record["exact_completeness_error"] < 0.05
    logged = {key: value for row in read(tmp_path / "metrics.csv") for key, value in row.items() if value}
    for row in read(tmp_path / "attribution" / "summary-fit.csv"):
        for name in ("S_nm3", "S_xy_nm2", "share_xy"):
            expected = pytest.approx(float(row[name]))
            assert float(logged[f"attribution/{name}_{row['k']}/{row['outcome']}"]) == expected
    assert not [name for name in logged if name.startswith("attribution/S_nm2")]
    assert list((tmp_path / "figures").glob("attribution-epoch-0000*.png"))


def test_networks_of_images_are_refused_before_validation(store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback()])
    with pytest.raises(UserError, match="plane by plane"):
        trainer.validate(tiny.GreyModule(), data_of(store, (4, 16, 16)), verbose=False)
