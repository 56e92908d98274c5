"""Metrics of whole mosaics see each mosaic once, whole, beside its truth, at the threshold of the scores."""

import json
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy import ndimage
from torch import Tensor

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.callbacks import ErrorMaps, ScoreFiles
from lightning_emseg.metrics.classes import (
    CleftDistances,
    LabelledObjectsIoU,
    MosaicMetric,
    SkeletonRecall,
    SurfaceDistances,
    UriscF1,
    VInfo,
)
from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from tests.support import class_runs, tiny
from tests.support.class_bands import BandModule, data_of, known_classes, write_classes
from tests.support.counted_metric import COLUMNS, LEVEL, Counted, module_of
from tests.support.tiny import Pixels


def refuse(pair: MosaicPair) -> tuple[float, ...]:
    raise UserError("this mosaic is too odd")


class Refusing(MosaicMetric):
    score = MosaicScore(("never",), refuse)


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
        assert tuple(rows[key][column] for column in COLUMNS) == values
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


SIZES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "train/a": ((70, 66), (4.0, 4.0)),
    "val/b": ((50, 66), (4.0, 4.0)),
    "test/image": ((90, 61), (4.0, 4.0)),
    # Higher than a row of tiles.
    "test/stack": ((5, 70, 36), (40.0, 4.0, 4.0)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[Pixels, Pixels]]]:
    """A store of images and a volume, and one image without golgi; image and positions of classes by key."""
    store = tmp_path_factory.mktemp("bands") / "s.zarr"
    content = class_runs.make_store(store, SIZES)
    image, positions = class_runs.content((40, 50), 9)
    positions[positions == 2] = 0
    write_classes(store, "test/without", image, positions)
    return store, {**content, "test/without": (image, positions)}


def distances(truth: Pixels, found: Pixels, size: tuple[float, ...], position: int) -> dict[str, float]:
    """ADGT and ADF by scipy, over pixels whose truth is known."""
    known = truth != 255
    masks = truth == position, (found == position) & known
    to_truth, to_found = (ndimage.distance_transform_edt(~mask, size) for mask in masks)
    return {"adgt_nm": float(to_truth[masks[1]].mean()), "adf_nm": float(to_found[masks[0]].mean())}


def test_every_class_and_the_mean_are_reported(
    made: tuple[Path, dict[str, tuple[Pixels, Pixels]]], tmp_path: Path
) -> None:
    store, content = made
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[ScoreFiles(), ErrorMaps()])
    module = BandModule(metrics=[CleftDistances(), LabelledObjectsIoU(), SurfaceDistances()])
    trainer.test(module, data_of(store), verbose=False)
    rows = json.loads((tmp_path / "scores-test.json").read_text())["mosaics"]
    assert set(rows) == {"test/image", "test/stack", "test/without"}
    for key in ("test/image", "test/stack"):
        image, truth = content[key]
        each = {
            name: distances(truth, known_classes(image), SIZES[key][1], at) for at, name in ((1, "mito"), (2, "golgi"))
        }
        for column in ("adgt_nm", "adf_nm"):
            for name, values in each.items():
                assert rows[key][f"{name}_{column}"] == pytest.approx(values[column], rel=1e-5)
            mean = (each["mito"][column] + each["golgi"][column]) / 2
            assert rows[key][f"mean_{column}"] == pytest.approx(mean, rel=1e-5)
        # A mask has no other threshold.
        assert rows[key]["golgi_labelled_objects_iou"] == rows[key]["golgi_labelled_objects_iou_at_0.5"]
    # Nothing is labelled: no value of the class, and no part in the mean.
    without = rows["test/without"]
    assert without["golgi_labelled_objects_iou"] is None
    assert without["mean_labelled_objects_iou"] == without["mito_labelled_objects_iou"] > 0
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["test/labelled_objects_iou"] == pytest.approx(
        np.mean([row["mean_labelled_objects_iou"] for row in rows.values()])
    )
    for column in ("mito_assd_nm", "mito_hausdorff95_nm", "golgi_iou"):
        assert logged[f"test/{column}"] == pytest.approx(np.mean([row[column] for row in rows.values()]))
    # One mosaic has golgi to find where there is none.
    assert logged["test/golgi_assd_nm"] == logged["test/assd_nm"] == np.inf
    # Maps of classes are no probabilities, and are nobody's to clean up.
    assert {path.name for path in tmp_path.iterdir()} == {"scores-test.json", "scores-test.csv", "scores-test.txt"}
    assert "mito_assd_nm" in (tmp_path / "scores-test.txt").read_text()


def test_maps_of_classes_are_no_probabilities(
    made: tuple[Path, dict[str, tuple[Pixels, Pixels]]], tmp_path: Path
) -> None:
    module = BandModule(metrics=[SurfaceDistances()])
    tiny.quiet_trainer(tmp_path, callbacks=[ErrorMaps()]).validate(module, data_of(made[0]), verbose=False)
    assert module.whole_maps() is None
    assert not list(tmp_path.glob("errors-*"))


def test_metric_of_probabilities_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="VInfo with max_over_thresholds needs the probability"):
        BandModule(metrics=[SurfaceDistances(), VInfo(max_over_thresholds=True)])
    BandModule(metrics=[VInfo()])


class Unpredictable(BandModule):
    """A module that fails as soon as it predicts."""

    def probability(self, image: Tensor) -> Tensor:
        raise AssertionError("predicted")


def test_a_metric_of_planes_refuses_volumes_before_prediction(
    made: tuple[Path, dict[str, tuple[Pixels, Pixels]]], tmp_path: Path
) -> None:
    for module in (Unpredictable(metrics=[metric]) for metric in (SkeletonRecall(10.0, 40.0), UriscF1())):
        with pytest.raises(UserError, match=r"(SkeletonRecall|UriscF1) is defined for planes, but test/stack is"):
            tiny.quiet_trainer(tmp_path).test(module, data_of(made[0]), verbose=False)
