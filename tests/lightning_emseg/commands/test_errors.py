"""`emseg errors` on a prediction whose errors were made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.callbacks import PredictionWriter
from lightning_emseg.commands.errors import errors
from tests.support import tiny

LEVEL = 100


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("errors")
    tiny.make_store(folder / "s.zarr")
    module = tiny.GreyModule()
    module.threshold.fill_(LEVEL / 255)
    trainer = tiny.quiet_trainer(folder, callbacks=[PredictionWriter(str(folder / "p.zarr"))])
    trainer.predict(module, tiny.data_of(folder / "s.zarr"), return_predictions=False)
    return folder / "p.zarr", folder / "s.zarr"


def expected(store: Path, level: int = LEVEL) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    views = [MosaicView.of(sample, "membrane") for sample in MosaicStore(store).samples("test")]
    read = {view.key: (view.read_mask((0, 0), view.shape), view.read_image((0, 0), view.shape)) for view in views}
    return {key: (truth, tiny.known_map(image) >= level) for key, (truth, image) in read.items()}


def test_figures_and_layers_show_the_stored_map(stores: tuple[Path, Path], tmp_path: Path) -> None:
    prediction, truth = stores
    text = errors(str(prediction), str(truth), tmp_path, split="test", layers=True)
    entries = json.loads((tmp_path / "index.json").read_text())["mosaics"]
    known = expected(truth)
    assert [entry["key"] for entry in entries] == list(known)
    for entry in entries:
        labels, found = known[entry["key"]]
        assert entry["pixels"]["fp"] == np.sum((labels == 0) & found)
        assert entry["pixels"]["fn"] == np.sum((labels == 1) & ~found)
        layer = np.asarray(zarr.open_array(prediction / entry["key"] / "labels" / "errors" / "0", mode="r")[:])
        # Codes 2 and 4 are false, within the tolerance and beyond it; 3 and 5 are missed; 1 is right.
        np.testing.assert_array_equal(np.isin(layer, (2, 4)), (labels == 0) & found)
        np.testing.assert_array_equal(np.isin(layer, (3, 5)), (labels == 1) & ~found)
        np.testing.assert_array_equal(layer == 1, (labels == 1) & found)
        assert entry["key"] in text
    assert "threshold 0.392" in text
    errors(str(prediction), str(truth), tmp_path, samples=["m0"], split="test", layers=True)
    assert len(json.loads((tmp_path / "index.json").read_text())["mosaics"]) == 1


def test_a_given_threshold_counts(stores: tuple[Path, Path], tmp_path: Path) -> None:
    errors(str(stores[0]), str(stores[1]), tmp_path, split="test", threshold="1")
    entries = json.loads((tmp_path / "index.json").read_text())["mosaics"]
    for entry in entries:
        labels, found = expected(stores[1], 255)[entry["key"]]
        assert entry["pixels"]["tp"] == np.sum((labels == 1) & found)


def test_sweeps_and_missing_predictions_are_refused(stores: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pass the number that it finds"):
        errors(str(stores[0]), str(stores[1]), tmp_path, threshold="sweep")
    with pytest.raises(UserError, match="no prediction of `lightning predict`"):
        errors(str(stores[1]), str(stores[1]), tmp_path, split="test")
