"""Occlusion against explicit loops, captum, and an encoder that looks at one known square."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Occlusion as CaptumOcclusion
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import UserError
from lightning_emseg.features.encoder import open_encoder
from lightning_emseg.features.occlusion import (
    Occlusion,
    OcclusionRow,
    measure_occlusion,
    occlusion_figure,
    second_view,
    square_corners,
)
from tests.support.known_encoders import encoder_of, stacked

WINDOW = (slice(70, 90), slice(130, 150))
MEAN, STD = 100.0, 40.0


def looks_at_window(normalised: Tensor) -> Tensor:
    """A constant, and the mean square of what is in the window."""
    seen = normalised[(slice(None), 0, *WINDOW)].square().mean(dim=(1, 2))
    return stacked(torch.ones_like(seen), seen)


def picture(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_occlusion_finds_the_only_square_that_matters() -> None:
    image = picture((160, 220))
    found = measure_occlusion(encoder_of(looks_at_window, MEAN, STD), image, image, batch_size=5)
    assert found.similarity == pytest.approx(1)
    seen = found.importance > 0
    # Pixels that no square shares with the window do not matter, and the most important ones lie around it.
    hit = np.zeros(image.shape, bool)
    for (y, x), drop in zip(found.corners.tolist(), found.drops.tolist(), strict=True):
        touches = y < 90 and y + 61 > 70 and x < 150 and x + 61 > 130
        assert (abs(drop) > 1e-9) == touches
        if touches:
            hit[y : y + 61, x : x + 61] = True
    assert (seen <= hit).all()
    assert found.importance[WINDOW].min() > 0.9


def by_hand(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> tuple[list[float], NDArray[np.float64]]:
    """Drops and mean drop a pixel, one square and one pixel after the other."""

    def features(pixels: NDArray[Any]) -> NDArray[Any]:
        vector = np.array([1.0, float((pixels[WINDOW] ** 2).mean())])
        length: float = np.sqrt((vector**2).sum())
        return vector / length

    plain, wanted = (image - MEAN) / STD, features((reference - MEAN) / STD)
    whole = float(features(plain) @ wanted)
    drops, boxes = [], []
    for y in range(0, 1000, 30):
        for x in range(0, 1000, 30):
            # A square that begins where the one before has reached the edge would show nothing new.
            if (y and y - 30 + 61 >= image.shape[0]) or (x and x - 30 + 61 >= image.shape[1]):
                continue
            hidden = plain.copy()
            hidden[y : y + 61, x : x + 61] = 0
            drops.append(whole - float(features(hidden) @ wanted))
            boxes.append((y, x))
    mean = np.zeros(image.shape)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            over = [
                drop for drop, (y, x) in zip(drops, boxes, strict=True) if y <= row < y + 61 and x <= column < x + 61
            ]
            mean[row, column] = sum(over) / len(over)
    return drops, mean


@pytest.mark.parametrize("shape", [(100, 151), (121, 150), (92, 155)])
def test_drops_and_importance_match_explicit_loops(shape: tuple[int, int]) -> None:
    image, reference = picture(shape), picture((90, 160), 1)
    found = measure_occlusion(encoder_of(looks_at_window, MEAN, STD), image, reference)
    drops, mean = by_hand(image, reference)
    np.testing.assert_allclose(found.drops, drops, atol=1e-6)
    np.testing.assert_allclose(found.importance, (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-4)


@pytest.mark.parametrize("shape", [(96, 122), (61, 91)])
def test_importance_matches_captum(shape: tuple[int, int]) -> None:
    encoder = open_encoder("a", "random:test_resnet:0", (127.0, 70.0))
    image, reference = picture(shape), picture((64, 64), 1)
    found = measure_occlusion(encoder, image, reference, batch_size=3)

    def direction(normalised: Tensor) -> Tensor:
        return F.normalize(encoder.features(normalised).double(), dim=1)

    wanted = direction(encoder.normalise(torch.tensor(reference)[None, None]))
    theirs = CaptumOcclusion(lambda images: direction(images) @ wanted.T).attribute(
        encoder.normalise(torch.tensor(image)[None, None]),
        sliding_window_shapes=(1, 61, 61),
        strides=(1, 30, 30),
        baselines=0,
        target=0,
    )[0, 0]
    rescaled = (theirs - theirs.min()) / (theirs.max() - theirs.min())
    np.testing.assert_allclose(found.importance, rescaled.numpy(), atol=1e-3)


@given(y=st.integers(61, 400), x=st.integers(61, 400))
def test_squares_cover_every_pixel_without_idle_ones(y: int, x: int) -> None:
    covered = np.zeros((y, x), int)
    corners = square_corners((y, x))
    for top, left in corners.tolist():
        assert top % 30 == 0
        assert left % 30 == 0
        covered[top : top + 61, left : left + 61] += 1
    assert covered.min() >= 1
    assert len(np.unique(corners, axis=0)) == len(corners)
    # Without the last row or column of squares, the far edge would be bare.
    assert corners[:, 0].max() + 31 < y or corners[:, 0].max() == 0
    assert corners[:, 1].max() + 31 < x or corners[:, 1].max() == 0


def test_batch_size_changes_no_drops() -> None:
    image, counted = picture((160, 160)), list[int]()
    encoder = encoder_of(looks_at_window, MEAN, STD)
    one = measure_occlusion(encoder, image, image, 1, counted.append)
    many = measure_occlusion(encoder, image, image, 1000)
    np.testing.assert_allclose(one.drops, many.drops, atol=1e-9)
    assert sum(counted) == len(one.corners)


def test_constant_features_have_no_importance() -> None:
    encoder = encoder_of(lambda images: stacked(torch.ones(len(images)), torch.ones(len(images))))
    found = measure_occlusion(encoder, picture((61, 61)), picture((61, 61)))
    assert len(found.drops) == 1
    assert (found.importance == 0).all()


def test_images_smaller_than_squares_are_refused() -> None:
    with pytest.raises(UserError, match="60 × 200 px is smaller than the squares of 61 px"):
        square_corners((60, 200))


@given(seed=st.integers(0, 1000), y=st.integers(61, 90), x=st.integers(61, 90))
def test_view_is_an_enlarged_part_of_the_image(seed: int, y: int, x: int) -> None:
    # Grey rises along both axes, so that its ends tell where the crop was.
    image = (2 * np.add.outer(np.arange(y) / y, np.arange(x) / x) * 60).astype(np.uint8)
    view = second_view(image, np.random.default_rng(seed))
    assert view.shape == image.shape
    assert view.dtype == np.uint8
    assert image.min() <= view.min()
    assert view.max() <= image.max()
    assert np.array_equal(view, second_view(image, np.random.default_rng(seed)))
    # Half of the area or more, at an aspect of 4:3 at most, leaves at least 0.6 of a side.
    assert np.ptp(view.astype(int)) >= 0.5 * np.ptp(image.astype(int))


def found(seed: int) -> Occlusion:
    random = np.random.default_rng(seed)
    return Occlusion(0.9, np.zeros((3, 2), np.int64), random.random(3), random.random((70, 80), np.float32))


def row(with_view: bool) -> OcclusionRow:
    image, view = np.random.default_rng(0).integers(0, 256, (2, 70, 80), dtype=np.uint8)
    return OcclusionRow("here", image, view if with_view else None, {"one": found(1), "two": found(2)})


@pytest.mark.parametrize("with_view", [True, False])
def test_heat_maps_lie_over_the_image(with_view: bool) -> None:
    given = row(with_view)
    figure = occlusion_figure([given, given])
    cells, views = figure.axes[:-1], 1 + with_view
    assert len(cells) == 2 * (views + 2)
    np.testing.assert_array_equal(np.asarray(cells[0].images[0].get_array()), given.image)
    if with_view:
        np.testing.assert_array_equal(np.asarray(cells[1].images[0].get_array()), given.reference)
    for axes, (name, result) in zip(cells[views:], given.found.items(), strict=False):
        under, over = axes.images
        np.testing.assert_array_equal(np.asarray(under.get_array()), given.image)
        np.testing.assert_array_equal(np.asarray(over.get_array()), result.importance)
        assert axes.get_title().startswith(f"{name}\nsimilarity 0.900, drop ≤ {result.drops.max():.2g}")
    assert figure.axes[-1].get_ylabel() == "importance"
