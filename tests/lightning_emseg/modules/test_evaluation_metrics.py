"""Metrics of whole mosaics see each mosaic once, whole, beside its truth, at the threshold of the scores."""

import json
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy import ndimage

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.callbacks import ScoreFiles
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from tests.support import tiny
from tests.support.counted_metric import LEVEL, Counted, module_of


class Refusing(MosaicMetric):
    columns = ("never",)

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        raise UserError("this mosaic is too odd")


def expected(store: Path, split: str) -> dict[str, tuple[float, float, float]]:
    rows = {}
    for sample in MosaicStore(store).samples(split):
        view = MosaicView.of(sample, "membrane")
        image, truth = view.read_image((0, 0), view.shape), view.read_mask((0, 0), view.shape)
        cells = ndimage.label(tiny.known_map(image) < LEVEL)[1]
        rows[view.key] = (float(cells), float((truth == 255).sum()), 4.0 * image.shape[0])
    return rows


def test_columns_are_in_table_files_and_logs(tiny_store: Path, tmp_path: Path) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[ScoreFiles()])
    trainer.test(module_of(Counted()), tiny.data_of(tiny_store), verbose=False)
    rows = json.loads((tmp_path / "scores-test.json").read_text())["mosaics"]
    for key, values in expected(tiny_store, "test").items():
        assert tuple(rows[key][column] for column in Counted.columns) == values
    cells = [values[0] for values in expected(tiny_store, "test").values()]
    assert float(trainer.callback_metrics["test/cells"]) == pytest.approx(np.mean(cells))
    # Maps are large and nobody's to clean up.
    assert not (tmp_path / "maps").exists()
    assert "cells" in (tmp_path / "scores-test.txt").read_text()


def test_a_fit_can_choose_checkpoints_by_them(tiny_store: Path, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="val/cells", mode="max")
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[best], enable_checkpointing=True, max_epochs=2)
    trainer.fit(module_of(Counted()), tiny.data_of(tiny_store, full_validation_every=1))
    assert best.best_model_score is not None
    assert float(best.best_model_score) > 0
    assert len(list((tmp_path / "best").iterdir())) == 1


def test_mosaic_seen_in_part_is_not_measured(tiny_store: Path, tmp_path: Path) -> None:
    module = module_of(Refusing())
    with pytest.warns(UserWarning, match="not scored"):
        tiny.quiet_trainer(tmp_path, limit_test_batches=1).test(module, tiny.data_of(tiny_store), verbose=False)
    with pytest.raises(UserError, match="too odd"):
        tiny.quiet_trainer(tmp_path).test(module, tiny.data_of(tiny_store), verbose=False)
