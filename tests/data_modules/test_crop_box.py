"""Views and transfer benchmarks share the drawing of crops; each draws what it drew before they did."""

import numpy as np
import pytest

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
