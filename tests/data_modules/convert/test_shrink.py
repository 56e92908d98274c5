import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from data_modules.convert.shrink import Filter, Shrink
from data_modules.errors import UserError
from tests.support.convert_checks import object_mask, picture

MOSAIC, TRACK2 = 9958 / 8, 1024 / 8
SIZES = ((round(MOSAIC), round(MOSAIC)), (round(TRACK2), round(TRACK2)))


def _line(degrees: float, offset: float, width: float) -> NDArray[np.uint8]:
    side = SIZES[0][0]
    y, x = np.mgrid[:side, :side] - side / 2 - offset
    distance = np.abs(x * np.sin(np.deg2rad(degrees)) + y * np.cos(np.deg2rad(degrees)))
    return np.where(distance <= width / 2, 1, 0).astype(np.uint8)


def test_thin_membranes_stay_connected_at_default_share() -> None:
    pieces = {0.25: 0, 0.5: 0}
    lines = [_line(degrees, offset, 5) for degrees in range(0, 91, 30) for offset in (0.0, 3.3)]
    for line in lines:
        for share in pieces:
            small = Shrink(*SIZES, label_share=share).mask(line)
            pieces[share] += ndimage.label(small, np.ones((3, 3)))[1] == 1
    assert pieces[0.25] == len(lines)
    assert pieces[0.5] < len(lines) / 2


def test_whole_factors_give_block_means_and_shares() -> None:
    shrink = Shrink((40, 56), (10, 14), label_share=0.25)
    blocks = picture().reshape(10, 4, 14, 4).astype(float).mean((1, 3))
    assert np.abs(shrink.image(picture()) - blocks).max() <= 1
    shares = object_mask().reshape(10, 4, 14, 4).mean((1, 3))
    np.testing.assert_array_equal(shrink.mask(object_mask().astype(np.uint8)), shares >= 0.25)


@pytest.mark.parametrize("name", ["box", "lanczos", "bicubic", "nearest"])
def test_every_filter_keeps_the_scene(name: Filter) -> None:
    smooth = np.add.outer(np.arange(97), np.arange(101)).astype(np.uint8)
    small = Shrink((97, 101), (10, 11), name).image(smooth)
    expected = np.add.outer((np.arange(10) + 0.5) * 9.7 - 0.5, (np.arange(11) + 0.5) * 101 / 11 - 0.5)
    assert small.shape == (10, 11)
    assert np.abs(small[1:-1, 1:-1] - expected[1:-1, 1:-1]).max() <= 2


def test_growing_and_impossible_shares_are_refused() -> None:
    with pytest.raises(UserError, match="smaller --size"):
        Shrink((10, 10), (20, 10))
    with pytest.raises(UserError, match="--label-share"):
        Shrink((10, 10), (5, 5), label_share=0)
