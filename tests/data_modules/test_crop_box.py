"""Random crops against torchvision's, and the crops of fixed seeds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop  # type: ignore[import-untyped]

from data_modules.crop_box import crop_box
from data_modules.resized_crop import ResizedCropAugment
from data_modules.views import TwoViews

Sides = tuple[int, int]
Range = tuple[float, float]
BOXES: dict[tuple[Sides, Range, Range], list[tuple[int, int, int, int]]] = {
    ((224, 224), (0.2, 1.0), (3 / 4, 4 / 3)): [
        (33, 11, 167, 210), (42, 45, 146, 120), (33, 76, 148, 143), (0, 30, 130, 149)
    ],
    ((112, 224), (0.2, 1.0), (3 / 4, 4 / 3)): [
        (17, 0, 94, 117), (4, 60, 104, 85), (3, 115, 105, 101), (0, 48, 92, 105)
    ],
    ((150, 120), (0.08, 1.0), (0.5, 1.5)): [
        (0, 7, 149, 96), (33, 29, 88, 52), (27, 47, 86, 70), (0, 17, 69, 77)
    ],
    # Too wide for any such crop: ten are drawn in vain.
    ((96, 400), (0.9, 1.0), (3 / 4, 4 / 3)): [(0, 136, 96, 128)] * 4,
}  # fmt: skip
"""Drawn by both functions of before from the generators ``default_rng([7, n])``, n from 0 to 3."""
NEXT = {
    ((224, 224), (0.2, 1.0), (3 / 4, 4 / 3)): 0.22520718999059186,
    ((112, 224), (0.2, 1.0), (3 / 4, 4 / 3)): 0.8212284183827663,
    ((150, 120), (0.08, 1.0), (0.5, 1.5)): 0.8735534453962619,
    ((96, 400), (0.9, 1.0), (3 / 4, 4 / 3)): 0.21530869823559895,
}
"""What the first of the generators gives afterwards, so that as many numbers were drawn."""

VIEWS = [((180, 148), (119.5, 84.5)), ((91, 111), (80.0, 75.0)), ((162, 172), (111.5, 99.5))]
CROPS = [(3, 0, 87, 59), (1, 0, 55, 78), (15, 32, 60, 41)]


@pytest.mark.parametrize("case", BOXES)
def test_crops_of_a_seed_are_fixed(case: tuple[Sides, Range, Range]) -> None:
    sides, share, aspect = case
    generators = [np.random.default_rng([7, number]) for number in range(4)]
    assert [crop_box(random, sides, share, aspect) for random in generators] == BOXES[case]
    assert generators[0].random() == NEXT[case]


def test_views_and_augmentation_draw_fixed_crops() -> None:
    # Of `stream(3, AUGMENTATION, 1, index, 0)`, and of `default_rng(n)`, before crops were shared.
    views, augment = TwoViews(), ResizedCropAugment()
    draws = [views.draw(3, 1, index, 0, [224, 200]) for index in range(3)]
    assert [(draw.box, draw.centre) for draw in draws] == VIEWS
    assert [augment.draw_crop(np.random.default_rng(number), 96, 80).box for number in range(3)] == CROPS


@given(
    sides=st.tuples(st.integers(20, 300), st.integers(20, 300)),
    seed=st.integers(0, 10**6),
    share=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
    aspect=st.tuples(st.floats(0.4, 2.5), st.floats(0.4, 2.5)).map(sorted),
)
def test_crops_lie_within_and_keep_share_and_aspect(
    sides: tuple[int, int], seed: int, share: list[float], aspect: list[float]
) -> None:
    height, width = sides
    random = np.random.default_rng(seed)
    for _ in range(15):
        top, left, down, across = crop_box(random, sides, (share[0], share[1]), (aspect[0], aspect[1]))
        assert 0 <= top <= top + down <= height
        assert 0 <= left <= left + across <= width
        # Sides are rounded, by half a pixel each.
        assert (across - 0.5) / (down + 0.5) <= aspect[1] * (1 + 1e-9)
        assert (across + 0.5) / (down - 0.5) >= aspect[0] * (1 - 1e-9)
        drawn = (down - 0.5) * (across - 0.5) <= share[1] * height * width
        drawn &= (down + 0.5) * (across + 0.5) >= share[0] * height * width
        # Where ten do not fit, the largest central one of an allowed aspect is taken.
        largest = height - down <= 1 or width - across <= 1
        assert drawn or (largest and (top, left) == ((height - down) // 2, (width - across) // 2))


@pytest.mark.parametrize("sides", [(160, 160), (160, 300)])
def test_crops_are_distributed_as_torchvisions(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    whole = torch.empty(1, *sides)
    theirs = np.array([RandomResizedCrop.get_params(whole, [0.08, 1.0], [0.5, 1.5]) for _ in range(5_000)])
    random = np.random.default_rng(1)
    ours = np.array([crop_box(random, sides, (0.08, 1.0), (0.5, 1.5)) for _ in range(5_000)])
    for name, one, other in (
        ("top", ours[:, 0], theirs[:, 0]),
        ("left", ours[:, 1], theirs[:, 1]),
        ("area", ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]),
        ("aspect", ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2]),
    ):
        # Eight comparisons in all: one in a thousand such tests would fail by chance.
        assert stats.ks_2samp(one, other).pvalue > 1e-4, name


def test_crops_may_fill_one_side() -> None:
    for sides, axis in (((100, 20), 0), ((20, 100), 1)):
        boxes = [crop_box(np.random.default_rng(number), sides, (0.2, 0.2), (1.0, 1.0)) for number in range(20)]
        assert {box[2:] for box in boxes} == {(20, 20)}
        assert len({box[axis] for box in boxes}) > 10, "only crops that do not fit are central"
