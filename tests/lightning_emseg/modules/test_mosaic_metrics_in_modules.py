"""Metrics of whole mosaics see each mosaic once, whole, beside its truth, at the threshold of the scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from scipy import ndimage
from torch import Tensor

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.callbacks import ScoreFiles
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from tests.support import tiny

LEVEL = 100


class Counted(MosaicMetric):
    columns = ("cells", "ignored", "side_nm")

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        cells = float(comparison.predicted_cells.max())
        return cells, float((~comparison.known).sum()), comparison.pixel_size_nm[0] * comparison.labels.shape[0]


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


def module_of(*metrics: MosaicMetric) -> tiny.GreyModule:
    module = tiny.GreyModule(metrics=list(metrics), threshold_criterion="fixed")
    module.threshold.fill_(LEVEL / 255)
    return module


def test_columns_are_in_the_table_the_files_and_the_logs(tiny_store: Path, tmp_path: Path) -> None:
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


def test_a_mosaic_seen_in_part_is_not_measured(tiny_store: Path, tmp_path: Path) -> None:
    module = module_of(Refusing())
    with pytest.warns(UserWarning, match="not scored"):
        tiny.quiet_trainer(tmp_path, limit_test_batches=1).test(module, tiny.data_of(tiny_store), verbose=False)
    with pytest.raises(UserError, match="too odd"):
        tiny.quiet_trainer(tmp_path).test(module, tiny.data_of(tiny_store), verbose=False)


def test_as_a_torchmetric_rows_of_mosaics_that_nobody_measured_are_no_numbers() -> None:
    metric = Counted(mosaics=3)
    truth = np.zeros((4, 5), np.uint8)
    metric.update(Comparison(truth, np.zeros((4, 5), np.uint8), 1, (2.0, 2.0)), mosaic=1)
    rows = metric.compute()
    assert rows.shape == (3, 3)
    assert rows[1].tolist() == [1.0, 0.0, 8.0]
    assert torch.isnan(rows[[0, 2]]).all()
    metric.reset()
    assert torch.isnan(_quiet(metric)).all()


def _quiet(metric: MosaicMetric) -> Tensor:
    with pytest.warns(UserWarning, match="before the ``update``"):
        found: Tensor = metric.compute()
    return found


def test_a_comparison_at_another_level_keeps_what_is_of_the_truth() -> None:
    random = np.random.default_rng(0)
    truth: NDArray[np.uint8] = random.choice(np.array([0, 1, 255], np.uint8), (30, 40))
    probability = random.integers(0, 256, (30, 40)).astype(np.uint8)
    first = Comparison(truth, probability, 100, (1.0, 2.0))
    before = first.truth_cells, first.distance_to_truth_nm, first.predicted
    other = first.at(200)
    assert other.truth_cells is before[0]
    assert other.distance_to_truth_nm is before[1]
    np.testing.assert_array_equal(other.predicted, (probability >= 200) & (truth != 255))
    np.testing.assert_array_equal(before[0] > 0, truth == 0)


def test_distances_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    truth = (random.random((20, 30, 25)) < 0.02).astype(np.uint8)
    found = Comparison(truth, 255 * truth, 1, (40.0, 4.0, 4.0)).distance_to_truth_nm
    np.testing.assert_allclose(found, ndimage.distance_transform_edt(truth == 0, (40.0, 4.0, 4.0)), rtol=1e-5)


def test_shapes_and_pixel_sizes_have_to_fit() -> None:
    with pytest.raises(ValueError, match="no prediction of"):
        Comparison(np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8), 1, (1.0, 1.0))
    with pytest.raises(ValueError, match="pixel sizes"):
        Comparison(np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), 1, (1.0,))


@pytest.mark.parametrize(("every", "told"), [(2, "is made every 2 epochs"), (0, "is never made")])
@pytest.mark.parametrize("callback", [EarlyStopping("val/f1", mode="max"), ModelCheckpoint(monitor="val/cells")])
def test_a_score_that_is_not_made_each_time_is_refused_before_training(
    tiny_store: Path, tmp_path: Path, every: int, told: str, callback: pl.Callback
) -> None:
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[callback], enable_checkpointing=True)
    with pytest.raises(UserError, match=told):
        trainer.fit(module_of(Counted()), tiny.data_of(tiny_store, full_validation_every=every))
    assert trainer.global_step == 0


def test_a_checkpoint_may_look_as_rarely_as_whole_mosaics_are_validated(tiny_store: Path, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="val/f1", mode="max", every_n_epochs=2)
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[best], enable_checkpointing=True, max_epochs=3)
    trainer.fit(module_of(), tiny.data_of(tiny_store, full_validation_every=2))
    assert best.best_model_score is not None
