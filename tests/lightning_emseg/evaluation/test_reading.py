"""Polarity: the minority is membrane, and where that is not clear, somebody has to say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom

from data_modules.errors import UserError
from lightning_emseg.evaluation.reading import SavedMap, SavedTruth, SidePolarity, read_prediction, read_truth
from lightning_emseg.evaluation.sources import ScoredImage


@pytest.mark.parametrize(("share", "expected"), [(0.0, "bright"), (0.2, "bright"), (0.8, "dark"), (1.0, "dark")])
def test_the_majority_is_background(share: float, expected: str) -> None:
    side = SidePolarity("truth", "auto")
    assert side.of(share, False, "a.png") == expected
    assert side.polarity == expected
    assert f"truth: membranes are {expected} (detected: {share:.1%} of the pixels are bright" in side.said


@pytest.mark.parametrize("share", [0.31, 0.5, 0.69])
def test_half_and_half_needs_to_be_told(share: float) -> None:
    with pytest.raises(UserError, match=r"a\.png: \d\d% .* --prediction-polarity bright or dark"):
        SidePolarity("prediction", "auto").of(share, False, "a.png")
    side = SidePolarity("prediction", "dark")
    assert side.of(share, False, "a.png") == "dark"
    assert side.said == "prediction: membranes are dark (given)"


def test_images_of_one_side_have_to_agree() -> None:
    side = SidePolarity("truth", "auto")
    side.of(0.1, False, "a.png")
    side.of(0.15, False, "b.png")
    assert "10.0% to 15.0%" in side.said
    with pytest.raises(UserError, match=r"c\.png: membranes seem to be dark, but bright .*--truth-polarity bright"):
        side.of(0.9, False, "c.png")


def test_stores_know_their_polarity() -> None:
    side = SidePolarity("truth", "auto")
    assert side.of(0.5, True, "test/a") == "bright"
    assert side.said == "truth: membranes are bright (as in every store)"
    assert SidePolarity("truth", "bright").of(0.9, True, "test/a") == "bright"
    with pytest.raises(UserError, match=r"test/a: stores have bright foreground always: leave out --truth-polarity"):
        SidePolarity("truth", "dark").of(0.5, True, "test/a")


Pixels = NDArray[Any]


def source(pixels: Pixels, kind: Any = "file") -> ScoredImage:
    return ScoredImage("a", "a", "a.tif", pixels.shape, kind, lambda: pixels)


def prediction(pixels: Pixels, kind: Any = "file") -> SavedMap:
    return read_prediction(source(pixels, kind))


def truth(pixels: Pixels, kind: Any = "file") -> SavedTruth:
    return read_truth(source(pixels, kind))


def cells(count: int, seed: int, side: int = 128) -> NDArray[np.int64]:
    """Ids 1…count of the nearest of random points, with lines of 0 between them."""
    random = np.random.default_rng(seed)
    marks = np.zeros((side, side), np.int64)
    marks.ravel()[random.choice(marks.size, count, replace=False)] = random.permutation(count) + 1
    _, nearest = distance_transform_edt(marks == 0, return_indices=True)
    ids: NDArray[np.int64] = marks[tuple(nearest)]
    ids[1:, 1:][(ids[1:, 1:] != ids[:-1, 1:]) | (ids[1:, 1:] != ids[1:, :-1])] = 0
    return ids


def smooth(seed: int, sigma: float, slope: float, side: int = 128) -> NDArray[np.float64]:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), sigma)
    probability: NDArray[np.float64] = 1 / (1 + np.exp(-slope * field / field.std()))
    return probability


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_255_parts(dtype: type) -> None:
    values: Pixels = np.linspace(0, 1, 1001).astype(dtype).reshape(7, -1)
    found = prediction(values)
    assert not found.binary
    exact = values.astype(np.float64) * 255
    assert np.abs(found.bright - exact).max() <= 0.5 + 1e-4


def test_single_precision_equals_stitched_levels() -> None:
    import torch

    values = torch.rand(200, 500, generator=torch.Generator().manual_seed(0))
    stitched = (values * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(prediction(values.numpy()).bright, stitched)


def test_sixteen_bits_are_the_share_of_their_range() -> None:
    eight = (smooth(0, 3, 3) * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(prediction(eight).bright, eight)
    np.testing.assert_array_equal(prediction(eight.astype(np.uint16) * 257).bright, eight)
    np.testing.assert_array_equal(prediction(eight.astype(np.int32) * 257).bright, eight)


@pytest.mark.parametrize(
    ("dtype", "high"),
    [
        *((np.uint8, 1), (np.uint8, 255), (np.uint16, 255), (np.uint16, 65535), (np.int32, 1)),
        *((np.int32, 65535), (np.float32, 1), (np.float32, 255), (np.float64, 1)),
    ],
)
def test_two_values_are_a_mask(dtype: type, high: int) -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.2
    for pixels in (mask, ~mask, np.zeros_like(mask), np.ones_like(mask)):
        found = prediction(pixels.astype(dtype) * dtype(high))
        assert found.binary
        np.testing.assert_array_equal(found.bright, pixels * 255)
        np.testing.assert_array_equal(truth(pixels.astype(dtype) * dtype(high)).bright, pixels)
    assert prediction(mask).binary, "bool"


def test_value_255_of_a_mask_is_ignored() -> None:
    pixels = np.array([[0, 1, 255], [0, 0, 1]], np.uint8)
    np.testing.assert_array_equal(truth(pixels).bright, pixels)
    np.testing.assert_array_equal(truth(pixels.astype(np.int32)).bright, pixels)
    for kind in ("file", "label"):
        found = prediction(pixels, kind)
        np.testing.assert_array_equal(found.bright, np.where(pixels == 1, 255, 0))
        assert found.unknown is not None
        np.testing.assert_array_equal(found.unknown, pixels == 255)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0.2, np.nan], [0.3, np.inf]]), r"a\.tif has 2 pixels that are NaN or infinite.*predict it again"),
        (np.array([[0.0, 1.2], [0.3, 0.5]]), r"a\.tif has values from 0 to 1\.2.*0–1: divide"),
        (np.array([[-3.1, 2.0], [0.3, 0.5]]), r"a\.tif has values from -3\.1.*logits.*sigmoid"),
        (np.array([[-3, 200], [7, 19]], np.int16), r"a\.tif has values from -3 to 200"),
        (np.array([[0, 100], [7, 200]], np.uint16), r"a\.tif has uint16 values up to 200 only.*0\.78.*8 bits"),
        (np.array([[0j, 1], [1, 0]]), r"a\.tif holds complex128 values: save it as"),
    ],
)
def test_impossible_probabilities_are_refused(pixels: Pixels, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prediction(pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("count", [40, 150])
def test_labels_are_refused_as_predictions(count: int, dtype: type) -> None:
    with pytest.raises(UserError, match=r"a\.tif seems to hold labels.*0 to 255 in 8 bits|uint16 values up to"):
        prediction(cells(count, seed=1).astype(dtype))


def test_large_ids_and_class_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="more than 16 bits"):
        prediction(cells(40, 1) * 1_000_003)
    with pytest.raises(UserError, match="small whole numbers up to 3"):
        prediction((cells(40, 1) % 4).astype(np.uint8))


@example(0, 12.0, 0.5, 0.2, True)
@example(1, 12.0, 0.5, 0.2, False)
@example(2, 0.0, 20.0, 1.0, True)
@given(
    seed=st.integers(0, 2**16),
    sigma=st.floats(0, 12),
    slope=st.floats(0.5, 20),
    share=st.floats(0.2, 1),
    coarse=st.booleans(),
)
def test_probability_maps_are_not_taken_for_labels(
    seed: int, sigma: float, slope: float, share: float, coarse: bool
) -> None:
    probability = smooth(seed, sigma, slope) * share
    if coarse:
        # Magnified by linear interpolation, as networks with a stride do.
        probability = zoom(probability, 4, order=1)[:256, :256]
    eight = np.rint(probability * 255).astype(np.uint8)
    assert not prediction(eight).binary
    assert not prediction(eight.astype(np.uint16) * 257).binary
    assert not prediction(np.rint(probability * 65535).astype(np.uint16)).binary


def test_constant_maps_are_not_taken_for_labels() -> None:
    assert not prediction(np.full((50, 60), 128, np.uint8)).binary
    assert not prediction(np.random.default_rng(0).integers(127, 130, (50, 60)).astype(np.uint8)).binary


def test_jpeg_noise_becomes_the_nearer_extreme() -> None:
    random = np.random.default_rng(0)
    bright = random.random((60, 70)) < 0.9
    noisy = np.where(bright, 247 + random.integers(0, 9, bright.shape), random.integers(0, 9, bright.shape))
    found = truth(noisy.astype(np.uint8))
    np.testing.assert_array_equal(found.bright, bright)
    assert found.grey is not None
    np.testing.assert_array_equal(found.grey, noisy)
    nearly_white = random.integers(250, 255, (20, 20)).astype(np.uint8)
    assert truth(nearly_white).bright.all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.array([[0, 1, 2], [3, 0, 0]], np.uint8),
        np.array([[0, 1, 2], [255, 0, 0]], np.uint8),
        np.array([[0, 128, 255], [3, 0, 0]], np.uint8),
        np.array([[0.0, 0.4, 1.0]]),
        np.arange(256, dtype=np.uint8).reshape(16, 16),
        np.array([[-1, 1, 0]]),
        cells(200, 0),
    ],
)
def test_truths_must_be_masks(pixels: Pixels) -> None:
    with pytest.raises(UserError, match=r"a\.tif is no mask of two values.*swapped"):
        truth(pixels)


def test_a_truth_that_is_ignored_everywhere_is_refused() -> None:
    with pytest.raises(UserError, match=r"a\.tif is ignored everywhere \(255\).*--samples"):
        truth(np.full((5, 6), 255, np.uint8), "label")
