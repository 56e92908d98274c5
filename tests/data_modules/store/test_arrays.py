"""Levels of a pyramid against means and samples by the book."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.store import LabelInfo
from tests.support.store_checks import Pixels, noise, stock, write_sample

BINARY = LabelInfo("binary")


def _halved(pixels: Pixels, nearest: bool) -> Pixels:
    """By the book, pixel by pixel: the mean rounded half up of what there is, an odd border repeated."""
    *leading, y, x = pixels.shape
    out = np.zeros((*leading, -(-y // 2), -(-x // 2)), pixels.dtype)
    for index in np.ndindex(out.shape):
        *front, row, column = index
        four = [
            int(pixels[(*front, min(2 * row + a, y - 1), min(2 * column + b, x - 1))]) for a in (0, 1) for b in (0, 1)
        ]
        out[index] = four[0] if nearest else int(sum(four) / 4 + 0.5)
    return out


@pytest.mark.parametrize("shape", [(1027, 5), (6, 1201), (3, 4, 1025)])
def test_levels_average_images_and_sample_labels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image, mask = noise(shape), noise(shape, 1, top=2)
    folder = write_sample(tmp_path / "s", image, {"m": (BINARY, mask)}, bands=[1])
    np.testing.assert_array_equal(stock(folder / "1"), _halved(image, nearest=False))
    np.testing.assert_array_equal(stock(folder / "labels" / "m" / "1"), _halved(mask, nearest=True))
    assert not (folder / "2").exists()


def test_levels_over_several_shards_join_without_a_seam(tmp_path: Path) -> None:
    image = noise((4102, 6))
    folder = write_sample(tmp_path / "s", image)
    np.testing.assert_array_equal(stock(folder / "1"), _halved(image, nearest=False))
    np.testing.assert_array_equal(stock(folder / "2"), _halved(stock(folder / "1"), nearest=False))
