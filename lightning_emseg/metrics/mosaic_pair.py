"""A prediction beside its truth, and named numbers of such a pair."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE

Mask = NDArray[np.bool_]
Segments = NDArray[np.uint32]
Distances = NDArray[np.float32]


class MosaicPair:
    """One whole mosaic as metrics see it; foreground is membrane, and cells are what it separates.

    Parts are computed when they are first asked for, and kept. Nothing in here is written to, but ``kept``.

    Attributes:
        kept: Results that several metrics share, by whatever key they agree on.

    Args:
        truth: ``uint8 (*S)``, 2D or 3D: 0, 1, or 255 where nothing is known; such pixels count nowhere.
        probability: ``uint8 (*S)``, quantised, 255 for certain foreground.
        level: Quantised threshold: pixels of at least ``level`` are foreground.
        pixel_size_nm: One value an axis.
        threads: Number of threads of a distance transform.

    Raises:
        ValueError: if the shapes differ, or there is not one pixel size an axis.
    """

    def __init__(
        self,
        truth: NDArray[np.uint8],
        probability: NDArray[np.uint8],
        level: int,
        pixel_size_nm: Sequence[float],
        threads: int = 2,
    ) -> None:
        if truth.shape != probability.shape:
            raise ValueError(f"a truth of {truth.shape} px has no prediction of {probability.shape} px")
        if len(pixel_size_nm) != truth.ndim:
            raise ValueError(f"{truth.ndim} axes need as many pixel sizes, got {tuple(pixel_size_nm)}")
        self.labels, self.probability, self.level = truth, probability, level
        self.pixel_size_nm, self.threads = tuple(pixel_size_nm), threads
        self.kept: dict[Any, Any] = {}

    @cached_property
    def known(self) -> Mask:
        """Where the truth is known."""
        known: Mask = self.labels != IGNORE
        return known

    @cached_property
    def all_known(self) -> bool:
        """Whether the truth is known everywhere."""
        return bool(self.known.all())

    @cached_property
    def truth(self) -> Mask:
        """Foreground of the truth."""
        foreground: Mask = self.labels == 1
        return foreground

    @cached_property
    def predicted(self) -> Mask:
        """Predicted foreground, where the truth is known."""
        found: Mask = self.probability >= self.level
        return found if self.all_known else found & self.known

    @cached_property
    def truth_cells(self) -> Segments:
        """Cells of the truth: 4-connected (6-connected in 3D) background, numbered from 1; 0 elsewhere."""
        return components(self.labels == 0)

    @cached_property
    def predicted_cells(self) -> Segments:
        """Cells of the prediction, likewise; over pixels without truth too, as a cell may reach across them."""
        return components(self.probability < self.level)

    @cached_property
    def distance_to_truth_nm(self) -> Distances:
        """Distance of every pixel to the nearest foreground of the truth, in nm; infinite where there is none."""
        return distance_to(self.truth, self.pixel_size_nm, self.threads)

    @cached_property
    def distance_to_prediction_nm(self) -> Distances:
        """Distance of every pixel to the nearest predicted foreground, in nm; infinite where there is none."""
        return distance_to(self.predicted, self.pixel_size_nm, self.threads)


def components(mask: Mask) -> Segments:
    """Label connected components over faces (4 neighbours in 2D, 6 in 3D) from 1; 0 outside of the mask."""
    found = cc3d.connected_components(mask, connectivity=4 if mask.ndim == 2 else 6, out_dtype=np.uint32)
    return found.astype(np.uint32, copy=False)


def distance_to(mask: Mask, pixel_size_nm: Sequence[float], threads: int = 2) -> Distances:
    """Compute the distance of every pixel to the nearest one of the mask, in nm; infinite where it is empty."""
    found: Distances = edt.edt(~mask, anisotropy=tuple(pixel_size_nm), black_border=False, parallel=threads)
    return found


T = TypeVar("T")


def at_once(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Run tasks that let other threads run, as numpy's and cc3d's do; results in the order of the tasks.

    >>> at_once([lambda: 1, lambda: 2], threads=2)
    [1, 2]
    """
    if threads < 2:
        return [task() for task in tasks]
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        return [each.result() for each in [pool.submit(task) for task in tasks]]


# Distances come in single precision; two that differ are further apart than this, up to some 300 px.
_ROUNDING = 1 + 2e-6


def within(distances: Distances, tolerance: float) -> Mask:
    """Find where distances ``float32 (*S)`` are at most a tolerance in the same unit, whatever their rounding."""
    found: Mask = distances <= np.float32(tolerance * _ROUNDING)
    return found


@dataclass(frozen=True)
class MosaicScore:
    """Named numbers of one whole mosaic as a function without state.

    Attributes:
        columns: Names of the numbers.
        row: Function of a pair; returns the numbers in the order of ``columns``, NaN for those that do not exist.
        planes_only: Whether volumes have no such numbers.
        needs_probability: Whether a mask in place of the probability does not do.
    """

    columns: tuple[str, ...]
    row: Callable[[MosaicPair], tuple[float, ...]]
    planes_only: bool = False
    needs_probability: bool = False
