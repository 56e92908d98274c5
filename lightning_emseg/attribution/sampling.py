"""Reproducible choice of windows and pixels of whole mosaics, for the callback and for offline studies."""

import functools
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.geometry import Grid, Shape
from data_modules.store import MosaicView
from lightning_emseg.attribution.measurement import StudySetting
from lightning_emseg.attribution.network import foreground_probability
from lightning_emseg.attribution.points import (
    OUTCOMES,
    ChosenPixels,
    choose_stratified,
    draw_priorities,
    find_outcomes,
    lowest_priority,
)
from lightning_emseg.attribution.windows import Hashes, Place, Window, hash_name, per_axis, read_window, window_shape

_TRIES = 20
_EVERYTHING = 2**62
"""More pixels than any study has."""


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
    """Choose windows at random places that show foreground and background, spread evenly over the mosaics.

    Args:
        views: Mosaics with labels.
        size: Size of a window in px; smaller mosaics get smaller windows.
        stride: Multiple that sides must have, one for all axes or one an axis.
        count: Number of windows; fewer where no further place is found.
        seed: Random seed of the choice.
    """
    chosen: list[Place] = []
    order = np.random.default_rng([seed, len(views)]).permutation(len(views))
    for attempt in range(_TRIES * count):
        if len(chosen) == count:
            break
        mosaic = int(order[attempt % len(views)])
        view = views[mosaic]
        shape = window_shape(size, view.shape, stride)
        room = [max(0, extent - side) for extent, side in zip(view.shape, shape, strict=True)]
        random = np.random.default_rng([seed, hash_name(view.key), attempt // len(views)])
        place = Place(mosaic, tuple(int(random.integers(0, most + 1)) for most in room), shape)
        truth = view.read_mask(place.origin, place.size)
        if place not in chosen and (truth == 1).any() and (truth == 0).any():
            chosen.append(place)
    return chosen


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
        network: Network from grey windows to logits; its own prediction of the window decides on outcomes.
        view: The mosaic.
        place: The window.
        level: Quantised threshold, 0–255.
        per_outcome: Pixels of each outcome; fewer where there are fewer.
        seed: Random seed of the choice.
        device: Device of the network.
    """
    window = read_window(view, place)
    probability = foreground_probability(network, window, device)
    order = draw_priorities((seed, hash_name(view.key)), place.origin, window.truth.shape)
    inner = inner_part(place, view.shape)
    truth = np.full_like(window.truth, IGNORE)
    truth[inner] = window.truth[inner]
    found = choose_stratified(truth, probability >= level, per_outcome, order)
    chosen = ChosenPixels(place, tuple(pixel for pixel, _ in found), tuple(outcome for _, outcome in found))
    return Picks(chosen, window, probability)


def inner_part(place: Place, extent: Sequence[int]) -> tuple[slice, ...]:
    """Cut the part of a window whose pixels see most of their surroundings: a fifth of a side away from its borders.

    Borders that are those of the mosaic do not count, as nothing lies behind them.

    >>> inner_part(Place(0, (0, 300), (500, 500)), (1000, 1000))
    (slice(0, 400, None), slice(100, 400, None))
    """
    return tuple(
        slice(side // 5 if start else 0, side if start + side >= total else side - side // 5)
        for start, side, total in zip(place.origin, place.size, extent, strict=True)
    )


def spread_evenly(wanted: int, parts: int) -> list[int]:
    """Divide ``wanted`` over ``parts`` as evenly as can be.

    >>> spread_evenly(8, 3)
    [3, 3, 2]
    """
    return [wanted // parts + (index < wanted % parts) for index in range(parts)]


@dataclass(frozen=True)
class GridWindow:
    """A window of a grid.

    Attributes:
        place: The window.
        owned: Pixels of the mosaic that belong to it and to no other window.
    """

    place: Place
    owned: tuple[slice, ...]


def make_tiles(
    views: Sequence[MosaicView], size: Sequence[int], overlap: float, stride: int | Sequence[int], resized: bool
) -> list[GridWindow]:
    """Make windows over whole mosaics, the last ones snapped to the border.

    Args:
        views: The mosaics.
        size: Size of a window, in px of the mosaic.
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


def choose_grid_windows(
    tiles: Sequence[GridWindow], views: Sequence[MosaicView], count: int | None, seed: int
) -> list[GridWindow]:
    """Choose windows at random, each as likely as any other and the same each time, in the order given."""
    if count is None or count >= len(tiles):
        return list(tiles)

    def priority(at: int) -> int:
        place = tiles[at].place
        # A longer key than that of pixels, so that the choice of windows has nothing to do with theirs.
        key = (seed, hash_name(views[place.mosaic].key), len(place.size))
        return int(draw_priorities(key, place.origin, (1,) * len(place.size)).item())

    return [tiles[at] for at in sorted(sorted(range(len(tiles)), key=priority)[:count])]


def choose_pixels(
    network: nn.Module,
    setting: StudySetting,
    tiles: Sequence[GridWindow],
    level: int,
    device: torch.device,
    points: int | None,
    step: int | Sequence[int] | None = None,
) -> list[ChosenPixels]:
    """Choose pixels at random places that depend on seed, mosaic and position alone.

    Every window with a label is predicted once. Memory holds the best candidates so far, whatever the mosaics' size.

    Args:
        network: Network from grey windows to logits; its own prediction of the window decides on outcomes.
        setting: Mosaics and settings of the study.
        tiles: Windows to choose from.
        level: Quantised threshold, 0–255.
        device: Device of the network.
        points: Number of pixels over all windows, fewer where there are fewer; with ``step``, ``None`` takes all.
        step: Distance of a grid's pixels along each axis, in px of the window after any resize, one for all axes or one
            an axis (Shi et al. 2021: 10 on U-RISC, 8 on ISBI 2012). Without it there are as many pixels of each
            outcome, wherever in the mosaics, or pixels anywhere where no mosaic has a label.

    Returns:
        Windows with at least one chosen pixel, in the order of ``tiles``.
    """
    if step is None and any(view.mask is not None for view in setting.views):
        quotas = spread_evenly(points or 0, len(OUTCOMES))
    else:
        quotas = [_EVERYTHING if points is None else points]
    best: list[list[tuple[int, int, Shape, str]]] = [[] for _ in quotas]
    for number, tile in enumerate(tqdm(tiles, desc="choose pixels", unit="window", disable=None)):
        window, view = setting.read(tile.place), setting.views[tile.place.mosaic]
        free, order = _find_candidates(tile, window, step, (setting.seed, hash_name(view.key)))
        codes = np.full(free.shape, IGNORE, np.uint8)
        if view.mask is not None:
            codes = find_outcomes(window.truth, foreground_probability(network, window, device) >= level)
            free &= codes != IGNORE
        for kind, (kept, quota) in enumerate(zip(best, quotas, strict=True)):
            mask = free if len(quotas) == 1 else free & (codes == kind)
            for pixel in lowest_priority(mask, order, quota):
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


def _find_candidates(
    tile: GridWindow, window: Window, step: int | Sequence[int] | None, key: tuple[int, ...]
) -> tuple[NDArray[np.bool_], Hashes]:
    """Find the pixels of a window that belong to it and lie on the grid, and the random priority of every pixel."""
    place = tile.place
    # Along each axis the pixel of the mosaic that each pixel of the window lies in.
    positions = [
        np.floor(start + (np.arange(side) + 0.5) * scale).astype(np.int64)
        for start, side, scale in zip(place.origin, window.truth.shape, window.scale, strict=True)
    ]
    owned = [(axis >= part.start) & (axis < part.stop) for axis, part in zip(positions, tile.owned, strict=True)]
    free: NDArray[np.bool_] = functools.reduce(np.logical_and.outer, owned)
    if step is not None:
        lattice = np.zeros(free.shape, np.bool_)
        lattice[tuple(slice(each // 2, None, each) for each in per_axis(step, free.ndim))] = True
        free &= lattice
    order = draw_priorities(key, place.origin, place.size)
    return free, order[np.ix_(*[axis - start for axis, start in zip(positions, place.origin, strict=True)])]
