"""Pixel sizes as users write them."""

import pytest

from data_modules.errors import UserError
from data_modules.tiling.units import parse_pixel_size


@pytest.mark.parametrize("text", ["x", "0", "-4", "1,2,3,4", "nan", "4 nm"])
def test_what_is_no_pixel_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is no pixel size in nm"):
        parse_pixel_size(text, "--pixel-size-nm")
