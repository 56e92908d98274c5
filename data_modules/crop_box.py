"""Randomly resized crops: which part of an image is kept."""

import math

import numpy as np

Range = tuple[float, float]

_TRIES = 10
"""Crops that are drawn before the largest central one is taken, as torchvision does."""


def crop_box(
    random: np.random.Generator, sides: tuple[int, int], share: Range, aspect: Range
) -> tuple[int, int, int, int]:
    """A crop, drawn as torchvision's and albumentations' ``RandomResizedCrop`` do.

    Args:
        random: That it is drawn from.
        sides: Height and width of the whole in px.
        share: Range of the crop's share of the area, drawn uniformly.
        aspect: Range of its width over its height, drawn on a logarithmic scale.

    Returns:
        Top, left, height and width in px; of ten that do not fit, the largest central one instead.
    """
    height, width = sides
    for _ in range(_TRIES):
        area = height * width * random.uniform(*share)
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            return int(random.integers(height - down + 1)), int(random.integers(width - across + 1)), down, across
    ratio = min(max(width / height, aspect[0]), aspect[1])
    down, across = min(height, round(width / ratio)), min(width, round(height * ratio))
    return (height - down) // 2, (width - across) // 2, down, across
