"""Pictures of predictions: colours and layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_emseg.core.pictures import (
    draw_class_comparison,
    draw_comparison,
    paint_classes,
    paint_errors,
    paint_wrong_pixels,
    save,
    stack,
)


def test_outcomes_have_their_colours() -> None:
    image = np.full((1, 5), 100, np.uint8)
    truth = np.array([[1, 0, 1, 0, 255]], np.uint8)
    predicted = np.array([[True, True, False, False, True]])
    colours = paint_errors(image, truth, predicted)[0].tolist()
    assert colours[0] == [0, 158, 115]  # green, correct
    assert colours[1] == [230, 159, 0]  # orange, false positive
    assert colours[2] == [204, 121, 167]  # pink, missed
    assert len(set(colours[3])) == 1  # grey, the image shines through
    assert colours[4] == [90, 90, 90]  # ignored


def test_panels_stand_side_by_side() -> None:
    random = np.random.default_rng(0)
    image, probability = (random.integers(0, 256, (40, 50), dtype=np.uint8) for _ in range(2))
    truth = (image < 90).astype(np.uint8)
    picture = draw_comparison(image, truth, probability, 128)
    header, gap = picture.shape[0] - 40, 6
    assert picture.shape[1] == 4 * 50 + 3 * gap
    panels = [picture[header:, index * (50 + gap) : index * (50 + gap) + 50] for index in range(4)]
    np.testing.assert_array_equal(panels[0], np.repeat(image[..., None], 3, axis=2))
    np.testing.assert_array_equal(panels[1][..., 0], 255 * truth)
    np.testing.assert_array_equal(panels[2][..., 1], probability)
    np.testing.assert_array_equal(panels[3], paint_errors(image, truth, probability >= 128))
    assert draw_comparison(image, None, probability, 128).shape[1] == 2 * 50 + gap


def test_stack_and_save(tmp_path: Path) -> None:
    pictures = [np.full((3, 4, 3), value, np.uint8) for value in (10, 20)]
    stacked = stack(pictures)
    assert stacked.shape == (3 + 6 + 3, 4, 3)
    save(stacked, tmp_path / "new" / "p.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "p.png")), stacked)


NAMES = ["background", "mitochondrion", "endoplasmic reticulum", "golgi", "lysosome", "lipid_droplet", "nucleus"]


def test_classes_have_their_colours_and_the_background_none() -> None:
    image = np.full((1, 5), 100, np.uint8)
    colours = paint_classes(image, np.array([[0, 1, 2, 8, 255]], np.uint8))[0].astype(float)
    assert colours[0].tolist() == [100, 100, 100]
    # Orange, then light blue, mixed with the image; behind seven colours they begin anew.
    np.testing.assert_allclose(colours[1], 0.4 * 100 + 0.6 * np.array([230, 159, 0]), atol=0.5)
    np.testing.assert_allclose(colours[2], 0.4 * 100 + 0.6 * np.array([86, 180, 233]), atol=0.5)
    assert colours[3].tolist() == colours[1].tolist()
    assert len(set(colours[4].tolist())) == 1
    assert colours[4][0] != 100


def test_ignored_pixels_are_never_wrong() -> None:
    image = np.full((1, 4), 100, np.uint8)
    found = paint_wrong_pixels(image, np.array([[1, 1, 0, 255]], np.uint8), np.array([[1, 2, 1, 2]], np.uint8))[
        0
    ].tolist()
    assert found[0] == [146, 146, 146]
    assert found[1] == found[2] == [213, 0, 0]
    assert found[3] == [90, 90, 90]


@pytest.mark.parametrize("width", [20, 64, 256, 768])
@pytest.mark.parametrize("count", [2, 4, 7])
def test_legend_fits_above_four_panels(width: int, count: int) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (30, width), dtype=np.uint8)
    truth, predicted = (random.integers(0, count, (30, width), dtype=np.uint8) for _ in range(2))
    picture = draw_class_comparison(image, truth, predicted, NAMES[:count])
    assert picture.shape[1] == 4 * width + 3 * 6
    panels = [picture[-30:, index * (width + 6) : index * (width + 6) + width] for index in range(4)]
    np.testing.assert_array_equal(panels[0], np.repeat(image[..., None], 3, axis=2))
    np.testing.assert_array_equal(panels[1], paint_classes(image, truth))
    np.testing.assert_array_equal(panels[2], paint_classes(image, predicted))
    np.testing.assert_array_equal(panels[3], paint_wrong_pixels(image, truth, predicted))
    legend = picture[: -30 - 18]
    assert (legend < 128).any()
    if width > 20:
        # Nothing is written up to the right border, where it would be cut off.
        assert (legend[:, -2:] == 255).all()
