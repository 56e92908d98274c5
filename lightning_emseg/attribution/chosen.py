"""Pixels that are attributed, and those among them whose exact fields are computed too."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from data_modules.grid import Shape
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.attribution.windows import Place


@dataclass(frozen=True)
class Chosen:
    """Pixels of one window.

    Attributes:
        place: The window.
        pixels: In px of the window, after any resize.
        outcomes: One a pixel; empty where there is no truth.
    """

    place: Place
    pixels: tuple[Shape, ...]
    outcomes: tuple[str, ...]

    def first_of_each(self) -> list[int]:
        """Positions in ``pixels`` of the first of every outcome that occurs."""
        return [self.outcomes.index(outcome) for outcome in OUTCOMES if outcome in self.outcomes]


def richest(chosen: Sequence[Chosen]) -> int:
    """Position of the window with the most outcomes, among these of the one with the most pixels."""
    return max(range(len(chosen)), key=lambda at: (len(set(chosen[at].outcomes)), len(chosen[at].pixels), -at))


def checked_pixels(chosen: Sequence[Chosen], count: int) -> list[tuple[int, ...]]:
    """Pixels whose exact fields are computed too: half of them in the richest window, the others in all others.

    Those in the richest window show how far fields reach before anything else is computed.

    Args:
        chosen: Windows with pixels.
        count: Number of pixels over all windows; fewer where there are fewer.

    Returns:
        For each window, rising positions in its ``pixels``.
    """
    first = richest(chosen)
    inside = _in_turn([chosen[first]])
    outside = _in_turn([each for at, each in enumerate(chosen) if at != first])
    half = max((count + 1) // 2, count - len(outside))
    others = [at for at in range(len(chosen)) if at != first]
    wanted = [(first, place) for _, place in inside[:half]]
    wanted += [(others[at], place) for at, place in outside[: count - len(wanted)]]
    return [tuple(sorted(place for at, place in wanted if at == number)) for number in range(len(chosen))]


def _in_turn(chosen: Sequence[Chosen]) -> list[tuple[int, int]]:
    """All pixels as (window, position), so that the first of them are of every outcome and of many windows."""
    names = sorted({outcome for each in chosen for outcome in each.outcomes}, key=(*OUTCOMES, "").index)
    queues = []
    for turn, name in enumerate(names):
        ranks = [[at for at, outcome in enumerate(each.outcomes) if outcome == name] for each in chosen]
        queue = sorted((rank, number, at) for number, places in enumerate(ranks) for rank, at in enumerate(places))
        # Shifted, so that few pixels of several outcomes are of several windows.
        shift = turn * len(queue) // len(names)
        queues.append([(number, at) for _, number, at in queue[shift:] + queue[:shift]])
    return [each for turn in itertools.zip_longest(*queues) for each in turn if each is not None]
