"""The table of a study: one row a pixel, then mean ± SE by outcome."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_modules.grid import Shape
from lightning_emseg.attribution.area import Values, normalised
from lightning_emseg.attribution.extent import Extent, Size
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.points import OUTCOMES

EVERY = "all"
"""Name of the summary over all outcomes."""


@dataclass(frozen=True)
class Row:
    """What was measured of one pixel's field.

    Attributes:
        mosaic: ``<split>/<sample>``.
        position: Of the pixel in its mosaic, in px.
        window: First pixel of its window in the mosaic, in px.
        outcome: ``TP``, ``FP``, ``FN`` or ``TN``; empty where there is no truth.
        output: F(x).
        baseline_output: F(x').
        completeness_error: ``|Σ A − (F(x) − F(x'))|``.
        sizes: Of the field; first S_k, an area in images and a volume in volumes.
    """

    mosaic: str
    position: Shape
    window: Shape
    outcome: str
    output: float
    baseline_output: float
    completeness_error: float
    sizes: tuple[Size, ...]


@dataclass(frozen=True)
class MeanSize:
    """Mean ± SE over pixels of one extent of their fields.

    Attributes:
        extent: How it was measured.
        nm: Mean, in nm² or nm³.
        nm_se: Standard deviation over √n, ddof 1; ``None`` for one pixel.
        share: Mean over the window, 0–1.
        share_se: Likewise.
    """

    extent: Extent
    nm: float
    nm_se: float | None
    share: float
    share_se: float | None


@dataclass(frozen=True)
class Summary:
    """Mean ± SE over the pixels of one outcome, at one threshold.

    Attributes:
        outcome: Of :data:`~lightning_emseg.attribution.points.OUTCOMES`, or ``all``.
        threshold: k.
        pixels: Number of pixels n.
        sizes: Of the fields; first S_k.
        completeness: Mean over pixels of the completeness error over ``max(|F(x) − F(x')|, 1)``.
    """

    outcome: str
    threshold: float
    pixels: int
    sizes: tuple[MeanSize, ...]
    completeness: float


def field_inside(field: Field, inside: Sequence[slice]) -> Values:
    """The normalised field, over the part of it that belongs to the mosaic."""
    cut = tuple(slice(0, max(0, part.stop - start)) for part, start in zip(inside, field.origin, strict=True))
    return normalised(field.values[cut])


def relative_error(row: Row, floor: float = 1.0) -> float:
    """Completeness error over ``max(|F(x) − F(x')|, floor)``."""
    return row.completeness_error / max(abs(row.output - row.baseline_output), floor)


def mean_completeness(errors: Sequence[float]) -> float | None:
    """Mean of relative completeness errors, ``None`` without any."""
    return float(np.mean(errors)) if errors else None


def summarise(rows: Sequence[Row], thresholds: Sequence[float], wanted: Sequence[float]) -> list[Summary]:
    """Mean ± SE of S_k by outcome, and over all of them.

    Args:
        rows: Of a study, all of images or all of volumes.
        thresholds: That the sizes of the rows are of.
        wanted: Thresholds among them to be summarised.
    """
    return [
        _summary(outcome, k, list(thresholds).index(k), chosen) for outcome, chosen in _by_outcome(rows) for k in wanted
    ]


def _by_outcome(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for outcome in OUTCOMES:
        if chosen := [row for row in rows if row.outcome == outcome]:
            yield outcome, chosen
    if rows:
        yield EVERY, list(rows)


def _summary(outcome: str, threshold: float, place: int, rows: Sequence[Row]) -> Summary:
    sizes = tuple(
        MeanSize(
            some[0].extent,
            *_mean_se([size.nm(place) for size in some]),
            *_mean_se([size.share(place) for size in some]),
        )
        for some in zip(*(row.sizes for row in rows), strict=True)
    )
    error = float(np.mean([relative_error(row) for row in rows]))
    return Summary(outcome, threshold, len(rows), sizes, error)


def _mean_se(values: Sequence[float]) -> tuple[float, float | None]:
    mean = float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
