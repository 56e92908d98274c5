"""Pixels to attribute: outcomes, random choice, groups that share a pass; windows ``(Y, X)`` or ``(Z, Y, X)``."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.geometry import Shape
from lightning_emseg.attribution.windows import PRIORITY, Hashes, Place, location_hash

Pixel = tuple[int, ...]
"""Position in a window, in px."""
OUTCOMES = ("TP", "FP", "FN", "TN")
"""Correct, incorrect and broken membrane, correct background; an outcome's code is its position here."""


def find_outcomes(truth: NDArray[np.uint8], predicted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Find the outcome of every pixel.

    Args:
        truth: ``uint8``, any shape: 0 background, 1 foreground, 255 ignored.
        predicted: ``bool`` of the same shape.

    Returns:
        ``uint8`` of the same shape: positions in :data:`OUTCOMES`, 255 where the truth is ignored.

    Raises:
        ValueError: if the shapes differ or the truth has other values.

    >>> find_outcomes(np.array([1, 0, 1, 0, 255], np.uint8), np.array([True, True, False, False, True])).tolist()
    [0, 1, 2, 3, 255]
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    if not np.isin(truth, (0, 1, IGNORE)).all():
        raise ValueError("the truth has values other than 0, 1 and 255")
    # By (truth, predicted), in the order of the table's rows.
    codes = np.array([OUTCOMES.index(name) for name in ("TN", "FP", "FN", "TP")], np.uint8)
    found: NDArray[np.uint8] = codes[2 * (truth == 1) + predicted]
    found[truth == IGNORE] = IGNORE
    return found


def draw_priorities(key: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> Hashes:
    """Draw a random order of the pixels of a mosaic, the same whichever window shows them.

    Args:
        key: Seed and mosaic.
        origin: First pixel of the window in its mosaic, in px.
        shape: Shape of the window, in px.

    Returns:
        ``uint64`` of ``shape``, for :func:`choose_stratified`.
    """
    return location_hash((PRIORITY, *key), origin, shape)


def choose_stratified(
    truth: NDArray[np.uint8], predicted: NDArray[np.bool_], per_outcome: int, priority: Hashes
) -> list[tuple[Pixel, str]]:
    """Choose the pixels of lowest priority number of each outcome, all where there are too few.

    Args:
        truth: ``uint8`` of the window's shape: 0, 1, or 255 for ignored pixels, which are never chosen.
        predicted: ``bool`` of the same shape.
        per_outcome: Number of pixels wanted of each of :data:`OUTCOMES`.
        priority: Numbers of the same shape, see :func:`draw_priorities`; equal ones count in C order.

    Returns:
        Pixels with their outcomes, outcome by outcome in the order of :data:`OUTCOMES`, each by priority.

    Raises:
        ValueError: if shapes differ or the truth has other values.
    """
    codes = find_outcomes(truth, predicted)
    return [
        (pixel, name)
        for code, name in enumerate(OUTCOMES)
        for pixel in lowest_priority(codes == code, priority, per_outcome)
    ]


def lowest_priority(mask: NDArray[np.bool_], priority: Hashes, count: int) -> list[Pixel]:
    """Find the ``count`` pixels of a mask with the lowest priority numbers, in their order.

    Args:
        mask: Pixels to choose from.
        priority: Numbers of the same shape; equal ones count in C order.
        count: Number of pixels; fewer where the mask has fewer.
    """
    if priority.shape != mask.shape:
        raise ValueError(f"priority {priority.shape} and mask {mask.shape} differ in shape")
    flat = np.flatnonzero(mask)
    numbers = priority.ravel()[flat]
    if 0 < count < len(flat):
        # Sorting all of a window would take longer.
        low = numbers <= np.partition(numbers, count - 1)[count - 1]
        flat, numbers = flat[low], numbers[low]
    flat = flat[np.argsort(numbers, kind="stable")[:count]]
    return [tuple(map(int, pixel)) for pixel in zip(*np.unravel_index(flat, mask.shape), strict=True)]


def group_pixels(pixels: Sequence[Pixel], apart: Sequence[int]) -> list[list[int]]:
    """Partition pixels into few groups in which any two are at least ``apart`` along at least one axis.

    The gradients at the pixels of a group then share a backward pass, if nothing beyond ``apart / 2`` around a pixel
    counts. Greedy: next comes the pixel whose neighbours already fill the most groups, of these the one with the most
    neighbours, and takes the first group that is free (Brélaz, "New methods to color the vertices of a graph",
    Commun. ACM 22, 1979). On a regular lattice that finds the fewest groups possible.

    Args:
        pixels: Positions in px, any order; N of them take O(N²) time.
        apart: Distance along each axis, in px, at least 1.

    Returns:
        Positions in ``pixels``, rising within each group; groups by their first.

    Raises:
        ValueError: if ``apart`` is no distance for each axis of the pixels.

    >>> group_pixels([(0, 0), (0, 3), (0, 6), (5, 1)], (4, 4))
    [[0, 2], [1, 3]]
    """
    if not pixels:
        return []
    axes = len(pixels[0])
    if len(apart) != axes or min(apart) < 1:
        raise ValueError(f"apart has to be a distance of at least 1 px for each of {axes} axes, got {tuple(apart)}")
    distance = np.array(apart)
    # In C order, so that the order given plays no role.
    given = sorted(range(len(pixels)), key=lambda index: tuple(pixels[index]))
    places = np.array([pixels[index] for index in given])
    near = [np.flatnonzero((np.abs(places - place) < distance).all(axis=1)) for place in places]
    most = max(map(len, near))
    taken = np.zeros((len(places), most), np.bool_)
    rank = np.array([len(neighbours) / (most + 1) for neighbours in near])
    found: list[list[int]] = [[] for _ in range(most)]
    for _ in given:
        place = int(rank.argmax())
        group = int(taken[place].argmin())
        found[group].append(given[place])
        rank[place] = -np.inf
        news = near[place][~taken[near[place], group]]
        taken[news, group] = True
        rank[news] += 1
    return sorted(sorted(members) for members in found if members)


@dataclass(frozen=True)
class ChosenPixels:
    """Pixels of one window.

    Attributes:
        place: The window.
        pixels: Positions in px of the window, after any resize.
        outcomes: One a pixel; empty where there is no truth.
    """

    place: Place
    pixels: tuple[Shape, ...]
    outcomes: tuple[str, ...]

    def first_of_each(self) -> list[int]:
        """Find the positions in ``pixels`` of the first of every outcome that occurs."""
        return [self.outcomes.index(outcome) for outcome in OUTCOMES if outcome in self.outcomes]


def richest_window(chosen: Sequence[ChosenPixels]) -> int:
    """Find the window with the most outcomes, among these the one with the most pixels."""
    return max(range(len(chosen)), key=lambda at: (len(set(chosen[at].outcomes)), len(chosen[at].pixels), -at))


def choose_checked(chosen: Sequence[ChosenPixels], count: int) -> list[tuple[int, ...]]:
    """Choose the pixels whose exact fields are computed too: half in the richest window, the others in all others.

    Those in the richest window show how far fields reach before anything else is computed.

    Args:
        chosen: Windows with pixels.
        count: Number of pixels over all windows; fewer where there are fewer.

    Returns:
        For each window, rising positions in its ``pixels``.
    """
    first = richest_window(chosen)
    inside = _in_turn([chosen[first]])
    outside = _in_turn([each for at, each in enumerate(chosen) if at != first])
    half = max((count + 1) // 2, count - len(outside))
    others = [at for at in range(len(chosen)) if at != first]
    wanted = [(first, place) for _, place in inside[:half]]
    wanted += [(others[at], place) for at, place in outside[: count - len(wanted)]]
    return [tuple(sorted(place for at, place in wanted if at == number)) for number in range(len(chosen))]


def _in_turn(chosen: Sequence[ChosenPixels]) -> list[tuple[int, int]]:
    """Order all pixels as (window, position), so that the first of them are of every outcome and of many windows."""
    names = sorted({outcome for each in chosen for outcome in each.outcomes}, key=(*OUTCOMES, "").index)
    queues = []
    for turn, name in enumerate(names):
        ranks = [[at for at, outcome in enumerate(each.outcomes) if outcome == name] for each in chosen]
        queue = sorted((rank, number, at) for number, places in enumerate(ranks) for rank, at in enumerate(places))
        # Shifted, so that few pixels of several outcomes are of several windows.
        shift = turn * len(queue) // len(names)
        queues.append([(number, at) for _, number, at in queue[shift:] + queue[:shift]])
    return [each for turn in itertools.zip_longest(*queues) for each in turn if each is not None]
