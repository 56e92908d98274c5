"""Which windows and which of their pixels a run looks at, the same whenever it looks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_modules.batch import IGNORE
from data_modules.store import MosaicView
from lightning_emseg.attribution.chosen import Chosen
from lightning_emseg.attribution.location_hash import number_of
from lightning_emseg.attribution.measurement import foreground_probability
from lightning_emseg.attribution.points import priorities, stratified
from lightning_emseg.attribution.windows import Place, Window, read_window, window_shape

_TRIES = 20


@dataclass(frozen=True)
class Picks:
    """Pixels of one window, and what they were chosen from.

    Attributes:
        chosen: The pixels.
        window: Image and truth.
        probability: Quantised, ``uint8 (*S)``.
    """

    chosen: Chosen
    window: Window
    probability: NDArray[np.uint8]


def choose_windows(
    views: Sequence[MosaicView], size: Sequence[int], stride: int | Sequence[int], count: int, seed: int
) -> list[Place]:
    """Windows at random places that show foreground and background, spread evenly over the mosaics.

    Args:
        views: Mosaics with labels.
        size: Of a window in px; smaller mosaics get smaller windows.
        stride: Multiple that sides must have, one for all axes or one an axis.
        count: Number of windows; fewer where no further place is found.
        seed: Of the choice.
    """
    chosen: list[Place] = []
    for place in _proposals(views, size, stride, count, seed):
        if len(chosen) == count:
            break
        truth = views[place.mosaic].read_mask(place.origin, place.size)
        if place not in chosen and (truth == 1).any() and (truth == 0).any():
            chosen.append(place)
    return chosen


def _proposals(
    views: Sequence[MosaicView], size: Sequence[int], stride: int | Sequence[int], count: int, seed: int
) -> Iterator[Place]:
    order = np.random.default_rng([seed, len(views)]).permutation(len(views))
    for attempt in range(_TRIES * count):
        mosaic = int(order[attempt % len(views)])
        view = views[mosaic]
        shape = window_shape(size, view.shape, stride)
        room = [max(0, extent - side) for extent, side in zip(view.shape, shape, strict=True)]
        random = np.random.default_rng([seed, number_of(view.key), attempt // len(views)])
        yield Place(mosaic, tuple(int(random.integers(0, most + 1)) for most in room), shape)


def pick(
    network: nn.Module,
    view: MosaicView,
    place: Place,
    level: int,
    per_outcome: int,
    seed: int,
    device: torch.device,
) -> Picks:
    """Choose pixels of every outcome in one window; those of an earlier choice as long as their outcome is the same.

    Args:
        network: From grey windows to logits; its own prediction of the window decides on outcomes.
        view: The mosaic.
        place: The window.
        level: Quantised threshold, 0–255.
        per_outcome: Pixels of each outcome; fewer where there are fewer.
        seed: Of the choice.
        device: Of the network.
    """
    window = read_window(view, place)
    probability = foreground_probability(network, window, device)
    order = priorities((seed, number_of(view.key)), place.origin, window.truth.shape)
    inner = inner_part(place, view.shape)
    truth = np.full_like(window.truth, IGNORE)
    truth[inner] = window.truth[inner]
    found = stratified(truth, probability >= level, per_outcome, order)
    chosen = Chosen(place, tuple(pixel for pixel, _ in found), tuple(outcome for _, outcome in found))
    return Picks(chosen, window, probability)


def inner_part(place: Place, extent: Sequence[int]) -> tuple[slice, ...]:
    """The part of a window whose pixels see most of their surroundings: a fifth of a side away from its borders.

    Borders that are those of the mosaic do not count, as nothing lies behind them.

    >>> inner_part(Place(0, (0, 300), (500, 500)), (1000, 1000))
    (slice(0, 400, None), slice(100, 400, None))
    """
    return tuple(
        slice(side // 5 if start else 0, side if start + side >= total else side - side // 5)
        for start, side, total in zip(place.origin, place.size, extent, strict=True)
    )


def spread(wanted: int, parts: int) -> list[int]:
    """``wanted`` divided over ``parts`` as evenly as can be.

    >>> spread(8, 3)
    [3, 3, 2]
    """
    return [wanted // parts + (index < wanted % parts) for index in range(parts)]
