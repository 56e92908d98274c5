"""Which prediction is scored against which truth."""

import numpy as np
import pytest

from data_modules.errors import UserError
from lightning_emseg.evaluation.sources import Pairing, ScoredImage, Side, pair_up


def side(what: str, *keys: str, shape: tuple[int, ...] = (4, 5), single_file: bool = False) -> Side:
    def source(key: str) -> ScoredImage:
        return ScoredImage(
            key, key.rpartition("/")[2], f"{what} {key}", shape, "file", lambda: np.zeros(shape, np.uint8)
        )

    return Side(what, tuple(map(source, keys)), single_file)


def matched(pairing: Pairing) -> list[tuple[str, str, str]]:
    return [(pair.key, pair.prediction.key, pair.truth.key) for pair in pairing.pairs]


def test_stores_match_by_split_and_name() -> None:
    found = pair_up(side("p", "test/a", "test/b"), side("t", "train/a", "test/a", "test/b"))
    assert matched(found) == [("test/a", "test/a", "test/a"), ("test/b", "test/b", "test/b")]
    assert found.only_prediction == ()
    assert found.only_truth == ("train/a",)


def test_stores_with_other_splits_match_by_name() -> None:
    assert matched(pair_up(side("p", "new/a"), side("t", "test/a", "test/b"))) == [("test/a", "new/a", "test/a")]


def test_files_match_samples_by_name() -> None:
    assert matched(pair_up(side("p", "a", "b"), side("t", "test/b", "test/a"))) == [
        ("test/a", "a", "test/a"),
        ("test/b", "b", "test/b"),
    ]
    assert matched(pair_up(side("p", "test/a"), side("t", "a"))) == [("test/a", "test/a", "a")]


def test_names_on_one_side_only_are_reported() -> None:
    found = pair_up(side("p", "a", "b", "c"), side("t", "b", "x"))
    assert found.notes == [
        "not scored, predictions without a truth: a, c",
        "not scored, truths without a prediction: x",
    ]


def test_no_common_names_lists_some_of_both_sides() -> None:
    many = [f"s{index}" for index in range(20)]
    with pytest.raises(UserError, match=r"no common names: p has a, b; t has s0, .*s5 and 14 more: rename one side"):
        pair_up(side("p", "a", "b"), side("t", *many))


def test_a_name_in_two_splits_is_not_guessed() -> None:
    with pytest.raises(UserError, match="t has several a: say which with --split"):
        pair_up(side("p", "a"), side("t", "train/a", "test/a"))


def test_two_files_match_page_by_page() -> None:
    one = pair_up(side("p.png", "p", single_file=True), side("t.png", "t", single_file=True))
    assert matched(one) == [("p", "p", "t")]
    pages = pair_up(side("p.tif", "p-0", "p-1", single_file=True), side("t.tif", "t-0", "t-1", single_file=True))
    assert matched(pages) == [("p-0", "p-0", "t-0"), ("p-1", "p-1", "t-1")]
    with pytest.raises(UserError, match=r"p\.tif holds 2 page\(s\) and t\.tif 1"):
        pair_up(side("p.tif", "p-0", "p-1", single_file=True), side("t.tif", "t", single_file=True))


def test_samples_are_chosen_by_split_and_name() -> None:
    p, t = side("p", "test/a", "test/b", "val/a"), side("t", "test/a", "test/b", "val/a")
    assert [pair.key for pair in pair_up(p, t, ["a"]).pairs] == ["test/a", "val/a"]
    assert [pair.key for pair in pair_up(p, t, ["test/a"]).pairs] == ["test/a"]
    with pytest.raises(UserError, match=r"p has no z \(--samples\); it has: a, b"):
        pair_up(p, t, ["a", "z"])


def test_sizes_that_differ_are_named() -> None:
    with pytest.raises(UserError, match=r"sizes differ: p a is 4 × 5 px and t a is 4 × 6 px: .*crop or resize"):
        pair_up(side("p", "a"), side("t", "a", shape=(4, 6)))
