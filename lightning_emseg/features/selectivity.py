"""Maps of an encoder compared with the mask of an organelle."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lightning_emseg.core.figures import PictureGrid, show_grey, show_heat, show_mask
from lightning_emseg.features.encoder import Encoder

FILTERS, RESPONSE_THRESHOLD = 32, 0.3
_VALUES_AT_A_TIME = 2**24
"""Enlarged values held at once; they take 128 MiB."""


@dataclass(frozen=True)
class Selectivity:
    """How well an encoder's maps find an organelle in one image.

    Attributes:
        correlations: Point-biserial correlation of each map with the mask, ``float64 (F,)``; NaN of constant maps.
        chosen: Indices of the most correlated maps, the best first, ``int64``; none that is not positive.
        response: Their mean rescaled to 0–1, ``float32 (Y, X)``; 0 everywhere if there is none or it is constant.
        binary: Pixels where it is above 0.3, ``bool (Y, X)``.
        response_correlation: Correlation of ``response`` with the mask; NaN if it is constant.
        iou: Intersection over union of ``binary`` and the mask, 0–1.
    """

    correlations: NDArray[np.float64]
    chosen: NDArray[np.int64]
    response: NDArray[np.float32]
    binary: NDArray[np.bool_]
    response_correlation: float
    iou: float


def measure_selectivity(
    encoder: Encoder,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
) -> Selectivity:
    """Correlate all maps with a mask, average the 32 best and binarise the mean (Conrad and Narayan 2021, Figure 3b).

    The best maps are found with the mask that they are judged by, as in the paper: the numbers compare encoders on one
    image, they do not say how well it could be segmented. Maps are enlarged bilinearly, corners on corners.

    Args:
        encoder: Encoder with few downsamplings, see :func:`~lightning_emseg.features.downsampling.keep_resolution`.
        image: ``(Y, X)``, grey levels.
        mask: Mask of the organelle, neither empty nor full.
    """
    maps = encoder.maps(encoder.normalise(torch.tensor(image)[None, None]))[0]
    truth = torch.tensor(mask).to(maps.device)
    correlations = _correlations(maps, truth).cpu().numpy()
    # NaN is no positive number and sorts to the end.
    ranked = np.argsort(-correlations, kind="stable")[:FILTERS]
    chosen = ranked[correlations[ranked] > 0]
    response = _mean_response(maps[torch.from_numpy(chosen).to(maps.device)], truth)
    binary = response > RESPONSE_THRESHOLD
    return Selectivity(
        correlations,
        chosen,
        response.float().cpu().numpy(),
        binary.cpu().numpy(),
        float(point_biserial(response[None], truth)),
        float((binary & truth).sum() / (binary | truth).sum()),
    )


def point_biserial(maps: Tensor, mask: Tensor) -> Tensor:
    """Correlation of each map with a mask: ``(M₁ − M₀) / s · √(p (1 − p))``.

    M₁ and M₀ are a map's means inside and outside, s its standard deviation (of the population), p the mask's share.

    Args:
        maps: ``(F, *S)``.
        mask: ``bool (*S)``.

    Returns:
        ``float64 (F,)``, −1 to 1; NaN where the map or the mask is constant.
    """
    values, inside = maps.flatten(1).double(), mask.flatten().double()
    share = inside.mean()
    deviations = values - values.mean(dim=1, keepdim=True)
    spread = deviations.square().mean(dim=1).sqrt()
    # Σ over the inside alone says all: deviations sum up to 0.
    difference = deviations @ inside / len(inside) / (share * (1 - share))
    correlation = difference * math.sqrt(float(share * (1 - share))) / spread
    return torch.where(spread > 0, correlation, torch.nan)


def _mean_response(maps: Tensor, mask: Tensor) -> Tensor:
    if not len(maps):
        return torch.zeros_like(mask, dtype=torch.double)
    mean = _enlarged(maps.double().mean(dim=0, keepdim=True), mask)[0]
    low, high = mean.min(), mean.max()
    return (mean - low) / (high - low) if high > low else torch.zeros_like(mean)


def _correlations(maps: Tensor, mask: Tensor) -> Tensor:
    step = max(1, _VALUES_AT_A_TIME // mask.numel())
    parts = [point_biserial(_enlarged(part, mask), mask) for part in torch.split(maps, step)]
    # Enlarging leaves rounding errors on a constant map, which would correlate with anything.
    constant = maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))
    return torch.where(constant, torch.nan, torch.cat(parts))


def _enlarged(maps: Tensor, mask: Tensor) -> Tensor:
    """``(F, y, x)`` to the size of the mask, in double precision."""
    return F.interpolate(maps[None].double(), size=tuple(mask.shape), mode="bilinear", align_corners=True)[0]


_OPACITY = 0.6


@dataclass(frozen=True)
class SelectivityRow:
    """One image of the figure.

    Attributes:
        name: Name of the image.
        image: ``(Y, X)``, grey levels.
        mask: ``(Y, X)``, mask of the organelle.
        found: Results by encoder, in one order for all rows.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    found: Mapping[str, Selectivity]


def selectivity_figure(rows: Sequence[SelectivityRow], organelle: str) -> Figure:
    """A row an image: the image, its truth, and for each encoder the mean map over the image and its binary mask.

    Args:
        rows: Rows, one or more.
        organelle: Name of the organelle.
    """
    grid = PictureGrid([row.image.shape for row in rows], 2 + 2 * len(rows[0].found))
    for cells, row in zip(grid.cells, rows, strict=True):
        show_grey(cells[0], row.image, row.name)
        show_mask(cells[1], row.mask, f"{organelle}: {row.mask.mean():.1%}")
        for heat, binary, (name, found) in zip(cells[2::2], cells[3::2], row.found.items(), strict=True):
            show_heat(heat, row.image, found.response, _OPACITY, f"{name}: r = {found.response_correlation:.3f}")
            show_mask(binary, found.binary, f"{name}: IoU = {found.iou:.3f}")
    grid.add_bar("mean response\n(line: cut for the mask)", RESPONSE_THRESHOLD)
    return grid.figure
