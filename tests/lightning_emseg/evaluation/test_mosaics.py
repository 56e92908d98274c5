"""Scores of whole mosaics against a network whose map is known, computed by numpy and scikit-learn."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from lightning_emseg.callbacks import PredictionWriter
from lightning_emseg.callbacks.evaluation_files import ScoreFiles
from lightning_emseg.modules.vanilla_unet import VanillaUNet
from tests.support import tiny

Pixels = NDArray[np.uint8]


def _stored(store: Path, key: str, array: str) -> Pixels:
    """Read with stock zarr alone."""
    values: Pixels = np.asarray(zarr.open_array(store / key / array, mode="r")[:])
    return values


def _truth(store: Path) -> dict[str, tuple[Pixels, Pixels]]:
    keys = [f"test/m{index}" for index in range(len(tiny.SPLITS["test"]))]
    return {key: (_stored(store, key, "0"), _stored(store, key, "labels/membrane/0")) for key in keys}


def _expected(probability: Pixels, truth: Pixels, level: int) -> dict[str, float]:
    used = truth != 255
    real, predicted = truth[used] == 1, probability[used] >= level
    return {
        "membrane_f1": f1_score(real, predicted),
        "membrane_iou": jaccard_score(real, predicted),
        "background_f1": f1_score(~real, ~predicted),
        "membrane_average_precision": average_precision_score(real, probability[used]),
        "tp": np.sum(real & predicted),
        "fp": np.sum(~real & predicted),
        "fn": np.sum(real & ~predicted),
        "tn": np.sum(~real & ~predicted),
    }


@pytest.mark.parametrize(
    ("tile", "overlap", "batch_size", "blend"),
    [(64, 0.5, 2, "constant"), (64, 0.0, 3, "gaussian"), (32, 0.75, 1, "cosine"), (48, 0.3, 5, "gaussian")],
)
def test_every_pixel_of_a_mosaic_counts_once(
    tiny_store: Path, tmp_path: Path, tile: int, overlap: float, batch_size: int, blend: Any
) -> None:
    module = tiny.GreyModule(blend=blend)
    module.threshold.fill_(100 / 255)
    data = tiny.data_of(tiny_store, tile_size=tile, overlap=overlap, eval_batch_size=batch_size)
    trainer = tiny.quiet_trainer(tmp_path)
    trainer.test(module, data, verbose=False)
    assert module.scores is not None
    assert not module.scores.partial
    values = []
    for key, (image, truth) in _truth(tiny_store).items():
        row = module.scores.rows[key]
        for name, value in _expected(tiny.known_map(image), truth, 100).items():
            assert row[name] == pytest.approx(value, abs=1e-12), (key, name)
        values.append(row["membrane_f1"])
    assert float(trainer.callback_metrics["test/f1"]) == pytest.approx(np.mean(values), abs=1e-6)
    assert float(trainer.callback_metrics["test/f1_se"]) == pytest.approx(
        np.std(values, ddof=1) / np.sqrt(len(values)), abs=1e-6
    )


def test_predicted_store_is_known_map_with_equal_scores(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule(blend="gaussian")
    module.threshold.fill_(90 / 255)
    out = tmp_path / "p.zarr"
    callbacks = [PredictionWriter(str(out)), ScoreFiles()]
    trainer = tiny.quiet_trainer(tmp_path, callbacks=callbacks)
    trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
    tiny.quiet_trainer(tmp_path, callbacks=callbacks).test(module, tiny.data_of(tiny_store), verbose=False)
    scores = json.loads((tmp_path / "scores-test.json").read_text())
    assert scores["threshold"] == pytest.approx(90 / 255, abs=1e-7)
    for key, (image, truth) in _truth(tiny_store).items():
        probability, mask = _stored(out, key, "0"), _stored(out, key, "labels/membrane/0")
        np.testing.assert_array_equal(probability, tiny.known_map(image))
        np.testing.assert_array_equal(mask, probability >= 90)
        for name, value in _expected(probability, truth, 90).items():
            assert scores["mosaics"][key][name] == pytest.approx(value, abs=1e-12), (key, name)


def test_network_of_tiles_scores_what_it_predicts(tiny_store: Path, tmp_path: Path) -> None:
    # Overlapping tiles of a real network disagree, so this holds only if test and predict blend alike.
    module = VanillaUNet(base_channels=4, depth=2, blend="gaussian")
    module.threshold.fill_(0.5)
    out = tmp_path / "p.zarr"
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[PredictionWriter(str(out))])
    trainer.predict(module, tiny.data_of(tiny_store), return_predictions=False)
    trainer.test(module, tiny.data_of(tiny_store), verbose=False)
    assert module.scores is not None
    for key, (_, truth) in _truth(tiny_store).items():
        for name, value in _expected(_stored(out, key, "0"), truth, 128).items():
            assert module.scores.rows[key][name] == pytest.approx(value, abs=1e-12)


def test_volumes_are_scored_like_pictures(tmp_path: Path) -> None:
    made = tiny.make_store(tmp_path / "v.zarr", {"test": ((9, 40, 33),)})
    data = tiny.data_of(tmp_path / "v.zarr", patch_size=[4, 16, 16])
    module = tiny.GreyModule()
    tiny.quiet_trainer(tmp_path).test(module, data, verbose=False)
    assert module.scores is not None
    image, truth = made["test/m0"]
    for name, value in _expected(tiny.known_map(image), truth, 128).items():
        assert module.scores.rows["test/m0"][name] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("val_tiles", [None, 3])
def test_cheap_tiles_count_every_pixel_once_at_most(tiny_store: Path, tmp_path: Path, val_tiles: int | None) -> None:
    module = tiny.GreyModule(optimizer=partial(torch.optim.SGD, lr=0.0))
    data = tiny.data_of(tiny_store, val_tiles=val_tiles, full_validation_every=0, eval_batch_size=3)
    tiny.quiet_trainer(tmp_path).fit(module, data)
    counts = module._evaluations[0].counts()
    assert not isinstance(counts, tuple)
    for index in range(2):
        key = f"val/m{index}"
        image, truth = _stored(tiny_store, key, "0"), _stored(tiny_store, key, "labels/membrane/0")
        expected = np.stack([np.bincount(tiny.known_map(image)[truth == value], minlength=256) for value in (0, 1)])
        if val_tiles is None:
            np.testing.assert_array_equal(counts[index], expected)
        else:
            assert (counts[index] <= expected).all()
            assert counts[index].sum() > 0


def test_full_validation_comes_every_n_epochs_and_last(tiny_store: Path, tmp_path: Path) -> None:
    epochs: list[int] = []

    class Listener(ScoreFiles):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if pl_module.scores is not None:
                epochs.append(trainer.current_epoch)
                assert set(pl_module.scores.rows) == {"val/m0", "val/m1"}

    trainer = tiny.quiet_trainer(tmp_path, max_epochs=5, callbacks=[Listener()])
    trainer.fit(tiny.GreyModule(), tiny.data_of(tiny_store, full_validation_every=2))
    assert epochs == [1, 3, 4]


@pytest.mark.parametrize("limits", [{"limit_test_batches": 3}, {"fast_dev_run": True}])
def test_mosaic_seen_in_part_is_not_scored(tiny_store: Path, tmp_path: Path, limits: dict[str, Any]) -> None:
    module = tiny.GreyModule()
    trainer = tiny.quiet_trainer(tmp_path, callbacks=[ScoreFiles()], **limits)
    # Two batches of two tiles cover one row of tiles of the first mosaic; the third lets that row out.
    data = tiny.data_of(tiny_store, tile_size=32, overlap=0.0, eval_batch_size=2)
    with pytest.warns(UserWarning, match=r"test/m0: only \d+ of 12901 pixels"):
        trainer.test(module, data, verbose=False)
    scores = json.loads((tmp_path / "scores-test.json").read_text())
    assert scores["mosaics"] == {}
    # Those that were not reached at all are named, too.
    assert {key: entry["pixels"] for key, entry in scores["partial"].items()} == {
        "test/m0": 133 * 97,
        "test/m1": 50 * 40,
        "test/m2": 200 * 61,
    }
    assert scores["partial"]["test/m0"]["pixels_seen"] == (32 * 97 if "limit_test_batches" in limits else 0)
    assert not (tmp_path / "scores-test.csv").exists()


def test_threshold_is_chosen_on_validation_and_kept(tiny_store: Path, tmp_path: Path) -> None:
    module = tiny.GreyModule()
    trainer = tiny.quiet_trainer(tmp_path)
    trainer.validate(module, tiny.data_of(tiny_store), verbose=False)
    curves = []
    for index in range(2):
        key = f"val/m{index}"
        probability = tiny.known_map(_stored(tiny_store, key, "0"))
        truth = _stored(tiny_store, key, "labels/membrane/0")
        used = truth != 255
        curves.append([f1_score(truth[used], probability[used] >= level) for level in range(1, 256)])
    curve = np.mean(curves, axis=0)
    level = round(float(module.threshold) * 255)
    assert curve[level - 1] == pytest.approx(curve.max(), abs=1e-12)
    assert module.threshold_source.startswith("mean_f1 on validation whole mosaics")
    assert module.scores is not None
    assert module.scores.summary["membrane_f1"].mean == pytest.approx(curve.max(), abs=1e-12)

    path = tmp_path / "kept.ckpt"
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    other = tiny.GreyModule()
    tiny.quiet_trainer(tmp_path).test(other, tiny.data_of(tiny_store), ckpt_path=str(path), verbose=False)
    assert other.scores is not None
    assert round(other.scores.threshold * 255) == level
    assert other.scores.criterion == module.threshold_source
    image, truth = _truth(tiny_store)["test/m0"]
    for name, value in _expected(tiny.known_map(image), truth, level).items():
        assert other.scores.rows["test/m0"][name] == pytest.approx(value, abs=1e-12)
