"""Images and labels are paired by their names."""

from pathlib import Path

import pytest

from data_modules.convert.pairs import pair
from data_modules.convert.sources import Page
from data_modules.errors import UserError


def _pages(*names: str) -> list[Page]:
    return [Page(name, Path(name), name, name) for name in names]


def _paired(images: list[str], labels: list[str]) -> list[str]:
    return [label.stem for label in pair(_pages(*images), _pages(*labels))]


def test_names_are_matched_by_their_differing_part() -> None:
    assert _paired(["a", "b"], ["b", "a"]) == ["a", "b"]
    assert _paired(["s9", "s10", "s11"], ["s11_mask", "s10_mask", "s9_mask"]) == ["s9_mask", "s10_mask", "s11_mask"]
    assert _paired(["raw_01", "raw_02"], ["02-labels", "01-labels"]) == ["01-labels", "02-labels"]
    assert _paired(["volume"], ["truth"]) == ["truth"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (["a", "b", "c"], ["a", "b"], "images without a label: c"),
        (["a", "b"], ["a", "b", "c"], "labels without an image: c"),
        (["s1", "s2"], ["s3_mask", "s4_mask"], "images without a label: s1, s2"),
        (["s1", "s2"], ["s1_mask", "s02_mask"], "images without a label"),
    ],
)
def test_names_that_do_not_match_are_listed(images: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _paired(images, labels)
