"""Polarity: the minority is membrane, and where that is not clear, somebody has to say."""

import pytest

from data_modules.errors import UserError
from lightning_emseg.scoring.polarity import SidePolarity


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
