"""Errors of whole mosaics are written where a report finds them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.callbacks import ErrorMaps
from tests.support import tiny

LEVEL = 100


def test_a_test_writes_the_errors_of_every_mosaic(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    module.threshold.fill_(LEVEL / 255)
    tiny.quiet_trainer(tmp_path, callbacks=[ErrorMaps()]).test(module, tiny.data_of(tiny_store), verbose=False)
    folder = tmp_path / "errors-test"
    entries = json.loads((folder / "index.json").read_text())["mosaics"]
    views = [MosaicView.of(sample, "membrane") for sample in MosaicStore(tiny_store).samples("test")]
    assert [entry["key"] for entry in entries] == [view.key for view in views]
    for entry, view in zip(entries, views, strict=True):
        truth = view.read_mask((0, 0), view.shape)
        predicted = tiny.known_map(view.read_image((0, 0), view.shape)) >= LEVEL
        pixels = entry["pixels"]
        assert pixels["tp"] == np.sum((truth == 1) & predicted)
        assert pixels["fp"] == np.sum((truth == 0) & predicted)
        assert pixels["fn"] == np.sum((truth == 1) & ~predicted)
        assert 0 <= pixels["fp_within_tolerance"] <= pixels["fp"]
        assert entry["threshold"] == pytest.approx(LEVEL / 255)
        sizes = {Image.open(folder / file).size for file in entry["files"].values()}
        assert sizes == {(view.shape[1], view.shape[0])}
    assert not (tmp_path / "maps").exists()


def test_a_fit_writes_none(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[ErrorMaps()])
    trainer.fit(tiny.GreyModule(), tiny.data_of(tiny_store, full_validation_every=1))
    assert not list(tmp_path.glob("errors-*"))
    assert not (tmp_path / "maps").exists()


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(UserError, match="tolerance_nm must be at least 0"):
        ErrorMaps(tolerance_nm=-1)
