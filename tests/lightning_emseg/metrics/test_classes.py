"""Metrics of whole mosaics as torchmetrics."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_modules.errors import UserError
from lightning_emseg.metrics.classes import MosaicMetric, SurfaceDistances, TolerantF1, UriscF1, VRand
from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from lightning_emseg.metrics.pixels import level_of
from tests.support.counted_metric import Counted
from tests.support.noisy_pixels import Pixels

NM = (4.0, 6.0)


def mosaic(seed: int, shape: tuple[int, ...] = (40, 50)) -> tuple[NDArray[np.float32], Pixels]:
    """Probabilities and a truth with ignored pixels."""
    random = np.random.default_rng(seed)
    truth = (random.random(shape) < 0.3).astype(np.uint8)
    found = np.clip(0.6 * truth + 0.5 * random.random(shape), 0, 1).astype(np.float32)
    truth[:4] = 255
    return found, truth


def test_means_are_over_mosaics_and_survive_pickling() -> None:
    metric, rows = SurfaceDistances(), []
    for seed in range(3):
        found, truth = mosaic(seed)
        metric.update(found, truth, NM, threshold=0.7)
        quantised = torch.from_numpy(found).mul(255).round().to(torch.uint8).numpy()
        rows.append(SurfaceDistances().row(MosaicPair(truth, quantised, level_of(0.7), NM)))
    values = pickle.loads(pickle.dumps(metric)).compute()
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(np.mean(rows, axis=0).tolist(), rel=1e-14)
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metric.compute().isnan().all()


def test_tensors_arrays_and_quantised_maps_agree() -> None:
    found, truth = mosaic(5)
    quantised = np.rint(found * np.float32(255)).astype(np.uint8)
    known = np.where(truth == 255, 0, truth)
    half = torch.from_numpy(found).bfloat16()
    assert VRand()(half, truth).tolist() == VRand()(half.float(), truth).tolist()
    for target, others in ((truth, [truth.astype(np.int64)]), (known, [known.astype(bool), known.astype(np.int32)])):
        expected = VRand()(found, target).tolist()
        for other in (target, *others):
            assert VRand()(torch.from_numpy(found), torch.from_numpy(other)).tolist() == expected
            assert VRand()(quantised, other).tolist() == expected


def test_undefined_rows_drop_out_of_means() -> None:
    found, truth = mosaic(1)
    empty = np.zeros_like(truth)
    metric = SurfaceDistances()
    metric.update(found, truth, NM)
    single = metric.compute().tolist()
    metric.update(np.zeros_like(found), empty, NM)
    assert metric.compute().tolist() == single
    metric.update(np.zeros_like(found), truth, NM)
    assert metric.compute().tolist() == [math.inf, math.inf]
    undefined = VRand()
    undefined.update(found, np.ones_like(truth))
    assert undefined.compute().isnan().all()


def test_one_pixel_size_is_for_all_axes() -> None:
    found, truth = mosaic(2, (3, 20, 20))
    one, each = TolerantF1(8.0), TolerantF1(8.0)
    one.update(found, truth, 4)
    each.update(found, truth, (4.0, 4.0, 4.0))
    assert one.compute().tolist() == each.compute().tolist()
    plain = Counted()
    plain.update(found, truth)
    assert plain.compute()[2] == 3


FOUND, TRUTH = mosaic(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FOUND, TRUTH[:-1]), r"preds of \(40, 50\) px and target of \(39, 50\) px"),
        ((FOUND[0], TRUTH[0]), "one whole mosaic a call"),
        ((8 * FOUND, TRUTH), "not logits"),
        ((np.full_like(FOUND, np.nan), TRUTH), "or NaN"),
        ((TRUTH.astype(np.int64), TRUTH), "preds are int64"),
        ((FOUND, 7 * (TRUTH == 1)), "target has other values"),
        ((FOUND, FOUND), "target has other values"),
        ((FOUND, TRUTH, (4.0, 4.0, 4.0)), "pixel_size_nm is"),
        ((FOUND, TRUTH, 0), "pixel_size_nm is"),
        ((FOUND, TRUTH, 4.0, 128), "threshold is 128"),
    ],
)
def test_input_that_does_not_fit_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"^SurfaceDistances: .*{message}"):
        SurfaceDistances().update(*arguments)


def test_volumes_are_refused_by_metrics_of_planes() -> None:
    with pytest.raises(UserError, match="UriscF1 is defined for planes"):
        UriscF1().update(*mosaic(4, (3, 9, 9)))


class Stateless(MosaicMetric):
    """No score, which an author may forget."""


class Short(MosaicMetric):
    score = MosaicScore(("one", "two"), lambda pair: (1.0,))


def test_faulty_metrics_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="Stateless has no score: give the class a MosaicScore"):
        Stateless()
    with pytest.raises(UserError, match=r"Short: its score returned 1 number\(s\) for the 2 column\(s\) one, two"):
        Short().update(FOUND, TRUTH)
