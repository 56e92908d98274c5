"""Pictures of predictions: colours and layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from lightning_emseg.report.overlay import comparison, error_colours, save, stack


def test_outcomes_have_their_colours() -> None:
    image = np.full((1, 5), 100, np.uint8)
    truth = np.array([[1, 0, 1, 0, 255]], np.uint8)
    predicted = np.array([[True, True, False, False, True]])
    colours = error_colours(image, truth, predicted)[0].tolist()
    assert colours[0] == [0, 158, 115]  # green, correct
    assert colours[1] == [230, 159, 0]  # orange, false positive
    assert colours[2] == [204, 121, 167]  # pink, missed
    assert len(set(colours[3])) == 1  # grey, the image shines through
    assert colours[4] == [90, 90, 90]  # ignored


def test_panels_stand_side_by_side() -> None:
    random = np.random.default_rng(0)
    image, probability = (random.integers(0, 256, (40, 50), dtype=np.uint8) for _ in range(2))
    truth = (image < 90).astype(np.uint8)
    picture = comparison(image, truth, probability, 128)
    header, gap = picture.shape[0] - 40, 6
    assert picture.shape[1] == 4 * 50 + 3 * gap
    panels = [picture[header:, index * (50 + gap) : index * (50 + gap) + 50] for index in range(4)]
    np.testing.assert_array_equal(panels[0], np.repeat(image[..., None], 3, axis=2))
    np.testing.assert_array_equal(panels[1][..., 0], 255 * truth)
    np.testing.assert_array_equal(panels[2][..., 1], probability)
    np.testing.assert_array_equal(panels[3], error_colours(image, truth, probability >= 128))
    assert comparison(image, None, probability, 128).shape[1] == 2 * 50 + gap


def test_stack_and_save(tmp_path: Path) -> None:
    pictures = [np.full((3, 4, 3), value, np.uint8) for value in (10, 20)]
    stacked = stack(pictures)
    assert stacked.shape == (3 + 6 + 3, 4, 3)
    save(stacked, tmp_path / "new" / "p.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "p.png")), stacked)
