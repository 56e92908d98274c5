"""Reproducible choice of windows and pixels of whole mosaics, for the callback and for offline studies."""

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.geometry import Grid, Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.measurement import StudySetting, foreground_probability
from lightning_emseg.attribution.points import OUTCOMES, ChosenPixels, outcomes, priorities, stratified
from lightning_emseg.attribution.windows import Hashes, Place, Window, number_of, per_axis, read_window, window_shape

_TRIES = 20


@dataclass(frozen=True)
class Picks:
    """Pixels of one window, and what they were chosen from.

    Attributes:
        chosen: The pixels.
        window: Image and truth.
        probability: Quantised, ``uint8 (*S)``.
    """

    chosen: ChosenPixels
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


def pick_pixels(
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
    chosen = ChosenPixels(place, tuple(pixel for pixel, _ in found), tuple(outcome for _, outcome in found))
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


def spread_evenly(wanted: int, parts: int) -> list[int]:
    """``wanted`` divided over ``parts`` as evenly as can be.

    >>> spread(8, 3)
    [3, 3, 2]
    """
    return [wanted // parts + (index < wanted % parts) for index in range(parts)]


Mask = NDArray[np.bool_]
OutcomeCodes = NDArray[np.uint8]
EVERYTHING = 2**62
"""More pixels than any study has."""


@dataclass(frozen=True)
class Strata:
    """Kinds of pixels and how many of each are wanted over all windows.

    Attributes:
        masks: From outcome codes ``uint8 (*S)`` and the pixels that may be chosen ``bool (*S)`` to one mask a kind.
        quotas: Pixels wanted of each kind; fewer where there are fewer.
    """

    masks: Callable[[OutcomeCodes, Mask], list[Mask]]
    quotas: tuple[int, ...]


@dataclass(frozen=True)
class GridWindow:
    """A window of a grid.

    Attributes:
        place: The window.
        owned: Pixels of the mosaic that belong to it and to no other window.
    """

    place: Place
    owned: tuple[slice, ...]


def by_outcome(points: int) -> Strata:
    """As many pixels of each outcome, wherever in the mosaics.

    Args:
        points: Pixels of all outcomes together.
    """
    share, rest = divmod(points, len(OUTCOMES))
    quotas = tuple(share + (code < rest) for code in range(len(OUTCOMES)))
    return Strata(lambda codes, free: [free & (codes == code) for code in range(len(OUTCOMES))], quotas)


def anywhere(points: int) -> Strata:
    """Pixels whatever their outcome, each as likely as any other."""
    return Strata(lambda codes, free: [free], (points,))


def on_grid(points: int | None, step: int | Sequence[int]) -> Strata:
    """Every ``step``-th pixel of a window along each axis (Shi et al. 2021: 10 on U-RISC, 8 on ISBI 2012).

    Args:
        points: A random choice of so many of these, or ``None`` for all.
        step: In px of the window, after any resize, one for all axes or one an axis.
    """

    def masks(codes: OutcomeCodes, free: Mask) -> list[Mask]:
        lattice = np.zeros(free.shape, np.bool_)
        lattice[tuple(slice(each // 2, None, each) for each in per_axis(step, free.ndim))] = True
        return [lattice & free]

    return Strata(masks, (EVERYTHING if points is None else points,))


def tiles_of(
    views: Sequence[MosaicView], size: Sequence[int], overlap: float, stride: int | Sequence[int], resized: bool
) -> list[GridWindow]:
    """Windows over whole mosaics, the last ones snapped to the border.

    Args:
        views: The mosaics.
        size: Of a window, in px of the mosaic.
        overlap: Share of a window that its neighbour covers too, 0 ≤ overlap < 1.
        stride: Multiple that the network wants, one for all axes or one an axis.
        resized: Whether windows are resized afterwards: all then keep the wanted size, even past the end of a smaller
            mosaic, so that all are resized by the same factor.
    """
    tiles = []
    for number, view in enumerate(views):
        shape = tuple(size) if resized else window_shape(size, view.shape, stride)
        grid = Grid(view.shape, shape, overlap)
        tiles += [GridWindow(Place(number, origin, shape), grid.owned(origin)) for origin in grid]
    return tiles


def some_of(tiles: Sequence[GridWindow], views: Sequence[MosaicView], count: int | None, seed: int) -> list[GridWindow]:
    """A random choice of windows, each as likely as any other and the same each time, in the order given."""
    if count is None or count >= len(tiles):
        return list(tiles)

    def priority(at: int) -> int:
        place = tiles[at].place
        # A longer key than that of pixels, so that the choice of windows has nothing to do with theirs.
        key = (seed, number_of(views[place.mosaic].key), len(place.size))
        return int(priorities(key, place.origin, (1,) * len(place.size)).item())

    return [tiles[at] for at in sorted(sorted(range(len(tiles)), key=priority)[:count])]


def choose_pixels(
    network: nn.Module,
    setting: StudySetting,
    tiles: Sequence[GridWindow],
    level: int,
    strata: Strata,
    device: torch.device,
) -> list[ChosenPixels]:
    """Choose pixels at random places that depend on seed, mosaic and position alone.

    Every window with a label is predicted once. Memory holds the best candidates so far, whatever the mosaics' size.

    Args:
        network: From grey windows to logits; its own prediction of the window decides on outcomes.
        setting: Of the study.
        tiles: Windows to choose from.
        level: Quantised threshold, 0–255.
        strata: Kinds of pixels.
        device: Of the network.

    Returns:
        Windows with at least one chosen pixel, in the order of ``tiles``.
    """
    best: list[list[tuple[int, int, Shape, str]]] = [[] for _ in strata.quotas]
    for number, tile in enumerate(tqdm(tiles, desc="choose pixels", unit="window", disable=None)):
        window = setting.read(tile.place)
        view = setting.views[tile.place.mosaic]
        positions = _positions(tile.place, window)
        free = _within(positions, tile.owned)
        codes = np.full(free.shape, IGNORE, np.uint8)
        if view.mask is not None:
            codes = outcomes(window.truth, foreground_probability(network, window, device) >= level)
            free &= codes != IGNORE
        order = _order(view, tile.place, positions, setting.seed)
        for kept, mask, quota in zip(best, strata.masks(codes, free), strata.quotas, strict=True):
            for pixel in _lowest(mask, order, quota):
                code = int(codes[pixel])
                kept.append((int(order[pixel]), number, pixel, "" if code == IGNORE else OUTCOMES[code]))
            kept.sort()
            del kept[quota:]
    found: dict[int, list[tuple[Shape, str]]] = defaultdict(list)
    for _, number, pixel, outcome in itertools.chain.from_iterable(best):
        found[number].append((pixel, outcome))
    return [
        ChosenPixels(tiles[number].place, tuple(pixel for pixel, _ in pairs), tuple(outcome for _, outcome in pairs))
        for number, pairs in sorted(found.items())
    ]


def _positions(place: Place, window: Window) -> list[NDArray[np.int64]]:
    """Along each axis the pixel of the mosaic that each pixel of the window lies in."""
    return [
        np.floor(start + (np.arange(side) + 0.5) * scale).astype(np.int64)
        for start, side, scale in zip(place.origin, window.truth.shape, window.scale, strict=True)
    ]


def _within(positions: Sequence[NDArray[np.int64]], owned: Sequence[slice]) -> Mask:
    inside = [(axis >= part.start) & (axis < part.stop) for axis, part in zip(positions, owned, strict=True)]
    free: Mask = functools.reduce(np.logical_and.outer, inside)
    return free


def _order(view: MosaicView, place: Place, positions: Sequence[NDArray[np.int64]], seed: int) -> Hashes:
    order = priorities((seed, number_of(view.key)), place.origin, place.size)
    return order[np.ix_(*[axis - start for axis, start in zip(positions, place.origin, strict=True)])]


def _lowest(mask: Mask, order: Hashes, count: int) -> list[Shape]:
    flat = np.flatnonzero(mask)
    if count < len(flat):
        flat = flat[np.argpartition(order.ravel()[flat], count)[:count]]
    return [tuple(int(at) for at in pixel) for pixel in zip(*np.unravel_index(flat, mask.shape), strict=True)]
