"""Selectivity against scipy, and against explicit arithmetic on encoders whose maps are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy.stats import pointbiserialr
from torch import Tensor

from lightning_emseg.features.selectivity import (
    Selectivity,
    SelectivityRow,
    measure_selectivity,
    point_biserial,
    selectivity_figure,
)
from tests.support.known_encoders import encoder_of

Values = NDArray[np.float64]


def half_mask(shape: tuple[int, int], seed: int = 0) -> NDArray[np.bool_]:
    mask = np.random.default_rng(seed).random(shape) < 0.3
    mask.flat[:2] = True, False
    return mask


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
def test_correlation_matches_scipy(seed: int, scale: float, offset: float) -> None:
    maps = offset + scale * np.random.default_rng(seed).normal(size=(4, 9, 7))
    mask = half_mask((9, 7), seed)
    maps[3] += 2 * scale * mask
    found = point_biserial(torch.tensor(maps), torch.tensor(mask)).numpy()
    wanted = [pointbiserialr(mask.ravel(), values.ravel()).statistic for values in maps]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_correlation_is_1_with_itself_nan_with_constants() -> None:
    mask = torch.tensor(half_mask((8, 8)))
    maps = torch.stack([mask.double(), 5 - 2 * mask.double(), torch.ones(8, 8, dtype=torch.double)])
    found = point_biserial(maps, mask)
    assert found[:2].tolist() == pytest.approx([1, -1])
    assert math.isnan(found[2])
    assert torch.isnan(point_biserial(maps, torch.ones(8, 8, dtype=torch.bool))).all()


def enlarged(values: Values, shape: tuple[int, int]) -> Values:
    """Linear interpolation along one axis after the other, corners on corners, in numpy."""
    y, x = values.shape
    rows = np.array([np.interp(np.linspace(0, y - 1, shape[0]), np.arange(y), column) for column in values.T]).T
    return np.array([np.interp(np.linspace(0, x - 1, shape[1]), np.arange(x), row) for row in rows])


def test_selectivity_matches_explicit_arithmetic() -> None:
    shape = (40, 30)
    mask = np.zeros(shape, bool)
    mask[10:25, 5:20] = True
    random = np.random.default_rng(4)
    coarse = mask[::4, ::4][:, :8].astype(float)
    maps = random.normal(size=(60, 10, 8)) + np.linspace(-1, 2, 60)[:, None, None] * coarse
    maps = maps.astype(np.float32).astype(np.float64)
    encoder = encoder_of(lambda image: torch.tensor(maps, dtype=torch.float32)[None])
    found = measure_selectivity(encoder, np.zeros(shape, np.uint8), mask)

    large = [enlarged(values, shape) for values in maps]
    correlations = np.array([pointbiserialr(mask.ravel(), values.ravel()).statistic for values in large])
    best = sorted(range(60), key=lambda index: -correlations[index])[:32]
    assert correlations[best[-1]] > 0
    mean = np.mean([large[index] for index in best], axis=0)
    response = (mean - mean.min()) / (mean.max() - mean.min())
    binary = response > 0.3
    np.testing.assert_allclose(found.correlations, correlations, atol=1e-6)
    assert found.chosen.tolist() == best
    np.testing.assert_allclose(found.response, response, atol=1e-5)
    assert (found.binary != binary).sum() <= 1
    assert found.response_correlation == pytest.approx(pointbiserialr(mask.ravel(), response.ravel()).statistic)
    assert found.iou == pytest.approx((binary & mask).sum() / (binary | mask).sum(), abs=0.01)


def test_maps_of_large_images_are_correlated_in_parts() -> None:
    mask = np.zeros((2048, 2049), bool)
    mask[300:900, 200:1200] = True
    maps = torch.tensor(np.random.default_rng(0).normal(size=(1, 5, 8, 8)), dtype=torch.float32)
    image = np.zeros(mask.shape, np.uint8)
    together = measure_selectivity(encoder_of(lambda image: maps), image, mask).correlations
    apart = measure_selectivity(encoder_of(lambda image: maps[:, 4:]), image, mask).correlations
    assert together.shape == (5,)
    assert together[4] == pytest.approx(apart[0])


def test_map_equal_to_the_mask_finds_it() -> None:
    mask = half_mask((32, 32))

    def maps(image: Tensor) -> Tensor:
        noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        return torch.cat([noise - image, image], dim=1)

    found = measure_selectivity(encoder_of(maps), 200 * mask.astype(np.uint8), mask)
    assert found.chosen.tolist() == [3]
    assert found.response_correlation == pytest.approx(1)
    assert found.iou == 1
    assert (found.binary == mask).all()


def test_constant_and_negative_maps_are_not_chosen() -> None:
    mask = half_mask((32, 32))
    truth = torch.tensor(mask).float()
    # A third is not exact in floating point, and enlarging it would leave something to correlate with.
    maps = torch.stack([torch.full_like(truth, 1 / 3), -truth, truth])[None]
    found = measure_selectivity(encoder_of(lambda image: maps), np.zeros((32, 32), np.uint8), mask)
    assert found.chosen.tolist() == [2]
    assert math.isnan(found.correlations[0])
    assert found.correlations[1] == pytest.approx(-1)


@pytest.mark.parametrize("side", [8, 5])
def test_constant_maps_have_no_correlation(side: int) -> None:
    maps = torch.full((1, 2, side, side), 1 / 3)
    found = measure_selectivity(encoder_of(lambda image: maps), np.zeros((33, 47), np.uint8), half_mask((33, 47)))
    assert np.isnan(found.correlations).all()
    assert len(found.chosen) == 0
    assert (found.response == 0).all()
    assert math.isnan(found.response_correlation)
    assert found.iou == 0


def found(seed: int) -> Selectivity:
    response = np.random.default_rng(seed).random((20, 30), np.float32)
    return Selectivity(np.zeros(4), np.arange(2), response, response > 0.3, 0.1 * seed, 0.05 * seed)


def row(seed: int) -> SelectivityRow:
    image = np.random.default_rng(seed).integers(0, 256, (20, 30), dtype=np.uint8)
    return SelectivityRow(f"image{seed}", image, image > 200, {"one": found(seed), "two": found(seed + 1)})


def shown(image: AxesImage) -> object:
    return np.asarray(image.get_array())


def test_rows_show_image_truth_and_encoder_pictures() -> None:
    rows = [row(1), row(2)]
    figure = selectivity_figure(rows, "nucleus")
    cells = figure.axes[:-1]
    assert len(cells) == 2 * (2 + 2 * 2)
    for number, shown_row in enumerate(rows):
        line = cells[6 * number : 6 * number + 6]
        assert line[0].get_title() == shown_row.name
        np.testing.assert_array_equal(shown(line[0].images[0]), shown_row.image)
        assert line[1].get_title().startswith("nucleus")
        np.testing.assert_array_equal(shown(line[1].images[0]), shown_row.mask)
        for place, (name, result) in enumerate(shown_row.found.items()):
            heat, binary = line[2 + 2 * place : 4 + 2 * place]
            np.testing.assert_array_equal(shown(heat.images[0]), shown_row.image)
            np.testing.assert_array_equal(shown(heat.images[1]), result.response)
            np.testing.assert_array_equal(shown(binary.images[0]), result.binary)
            assert heat.get_title() == f"{name}: r = {result.response_correlation:.3f}"
            assert binary.get_title() == f"{name}: IoU = {result.iou:.3f}"
    assert figure.axes[-1].get_ylabel().startswith("mean response")
