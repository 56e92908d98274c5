"""Metrics of whole mosaics of a network of several classes, whose class of every pixel is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from data_modules.errors import UserError
from lightning_emseg.callbacks import ErrorMaps, ScoreFiles
from lightning_emseg.metrics.boundary.cleft_distances import CleftDistances
from lightning_emseg.metrics.boundary.distances import SurfaceDistances
from lightning_emseg.metrics.boundary.skeleton_recall import SkeletonRecall
from lightning_emseg.metrics.segmentation.information import VInfo
from lightning_emseg.metrics.segmentation.labelled_iou import LabelledObjectsIoU
from tests.support import class_runs, tiny
from tests.support.class_bands import BandModule, data_of, known_classes, write_classes
from tests.support.tiny import Pixels

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


def test_a_metric_of_planes_still_refuses_volumes(
    made: tuple[Path, dict[str, tuple[Pixels, Pixels]]], tmp_path: Path
) -> None:
    module = BandModule(metrics=[SkeletonRecall(10.0, 40.0)])
    with pytest.raises(UserError, match="SkeletonRecall"):
        tiny.quiet_trainer(tmp_path).test(module, data_of(made[0]), verbose=False)
