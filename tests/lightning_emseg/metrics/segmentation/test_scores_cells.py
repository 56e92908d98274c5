"""Metrics of whole mosaics: columns, comparisons made once, ignored pixels and special cases."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lightning_emseg.metrics.classes import AdaptedRand, MosaicMetric, VariationOfInformation, VInfo, VRand
from lightning_emseg.metrics.mosaic_pair import MosaicPair, components
from lightning_emseg.metrics.segmentation.cells import ISBI_LEVELS, tabulate_cells, thin_borders
from lightning_emseg.metrics.segmentation.contingency import contingency
from lightning_emseg.metrics.segmentation.scores import adapted_rand, v_info, v_rand, variation_of_information

Pixels = NDArray[np.uint8]
SHAPES = [(60, 70), (5, 30, 40)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[Pixels, Pixels]:
    """Truth and probability of the same curved membranes, seen through noise."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.normal(size=shape), [1, 3, 3][-len(shape) :])
    field /= field.std()
    noisy = np.abs(field + ndimage.gaussian_filter(random.normal(size=shape), 1))
    return (np.abs(field) < 0.3).astype(np.uint8), np.clip(255 - 200 * noisy, 0, 255).astype(np.uint8)


def comparison(truth: Pixels, probability: Pixels, level: int = 128) -> MosaicPair:
    return MosaicPair(truth, probability, level, (40, 4, 4)[-truth.ndim :])


def every_metric() -> list[MosaicMetric]:
    return [
        VRand(max_over_thresholds=True),
        VRand(thinned=False),
        VInfo(max_over_thresholds=True),
        VInfo(thinned=False),
        AdaptedRand(),
        VariationOfInformation(),
    ]


def values(metric: MosaicMetric, given: MosaicPair) -> dict[str, float]:
    return dict(zip(metric.columns, metric.row(given), strict=True))


def all_values(given: MosaicPair) -> dict[str, float]:
    return {name: value for metric in every_metric() for name, value in values(metric, given).items()}


def test_columns_tell_what_they_are() -> None:
    assert VRand().columns == ("v_rand", "v_rand_split", "v_rand_merge")
    assert VInfo(max_over_thresholds=True).columns[3:] == ("v_info_max", "v_info_max_threshold")
    names = [name for metric in every_metric() for name in metric.columns]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_the_scores_of_the_cells(shape: tuple[int, ...]) -> None:
    truth, probability = pair(shape)
    found = all_values(comparison(truth, probability, 90))
    true, cells = components(truth == 0), components(probability < 90)
    plain, thin = contingency(true, cells), contingency(true, thin_borders(cells))
    assert (found["v_rand"], found["v_rand_split"], found["v_rand_merge"]) == v_rand(thin)
    assert (found["v_info"], found["v_info_split"], found["v_info_merge"]) == v_info(thin)
    assert found["v_rand_unthinned"] == v_rand(plain).f
    assert found["v_info_unthinned"] == v_info(plain).f
    assert (found["arand"], found["arand_precision"], found["arand_recall"]) == tuple(adapted_rand(plain))
    voi = variation_of_information(plain)
    assert (found["voi"], found["voi_split"], found["voi_merge"]) == (voi.total, voi.split, voi.merge)


@pytest.mark.parametrize("shape", SHAPES)
def test_best_threshold_is_the_maximum_over_all(shape: tuple[int, ...]) -> None:
    truth, probability = pair(shape)
    for metric, name in ((VRand(max_over_thresholds=True), "v_rand"), (VInfo(max_over_thresholds=True), "v_info")):
        by_level = {level: values(metric, comparison(truth, probability, level))[name] for level in ISBI_LEVELS}
        found = values(metric, comparison(truth, probability))
        assert found[f"{name}_max"] == max(by_level.values())
        assert by_level[round(255 * found[f"{name}_max_threshold"])] == found[f"{name}_max"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prediction_that_is_the_truth_is_perfect(shape: tuple[int, ...]) -> None:
    truth, _ = pair(shape)
    found = all_values(comparison(truth, truth * np.uint8(255)))
    for name, value in found.items():
        if not name.endswith("threshold"):
            assert value == (0 if name in ("arand", "voi", "voi_split", "voi_merge") else 1), name


@pytest.mark.parametrize("shape", SHAPES)
def test_ignored_pixels_count_only_where_cells_reach_across(shape: tuple[int, ...]) -> None:
    truth, probability = pair(shape)
    truth[..., 20:24] = 255
    apart, other = probability.copy(), probability.copy()
    apart[..., 20:24] = 255
    other[..., 20:24] = 255
    other[..., 21:23] = 0  # cells within what is ignored
    for metric in (AdaptedRand(), VariationOfInformation(), VRand(thinned=False)):
        assert values(metric, comparison(truth, apart)) == values(metric, comparison(truth, other))
    pixels = tabulate_cells(comparison(truth, probability), thinned=True).pixels
    assert pixels == np.sum(truth == 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_truth_without_cells_has_no_score(shape: tuple[int, ...]) -> None:
    _, probability = pair(shape)
    for fill in (1, 255):
        found = all_values(comparison(np.full(shape, fill, np.uint8), probability))
        assert all(map(math.isnan, found.values()))


@pytest.mark.parametrize("shape", SHAPES)
def test_background_everywhere_is_one_cell_for_both(shape: tuple[int, ...]) -> None:
    nothing = np.zeros(shape, np.uint8)
    found = all_values(comparison(nothing, nothing))
    assert (found["v_rand"], found["v_info"], found["arand"], found["voi"]) == (1, 1, 0, 0)
    truth, _ = pair(shape)
    merged = all_values(comparison(truth, nothing))
    assert (merged["v_rand_split"], merged["v_info_split"], merged["arand_recall"], merged["voi_split"]) == (1, 1, 1, 0)
    assert merged["v_rand_merge"] < 1
    assert (merged["v_info_merge"], merged["voi_merge"] > 0) == (0, True)
