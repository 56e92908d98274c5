"""Which metrics a panel has beside the pixel scores: the one list of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from lightning_emseg.metrics.boundary.distances import SurfaceDistances
from lightning_emseg.metrics.boundary.skeleton_recall import SHORTEST_BREAK_NM, SkeletonRecall
from lightning_emseg.metrics.boundary.tolerant_f1 import TolerantF1
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.segmentation.information import VariationOfInformation, VInfo
from lightning_emseg.metrics.segmentation.rand import AdaptedRand, VRand
from lightning_emseg.metrics.table import Row

PanelName = Literal["fast", "full"]
Panel = Mapping[str, Sequence[MosaicMetric]]
"""Metrics by the heading that their columns stand under."""

TOLERANCE_NM = 10.0
"""How far beside a true membrane a predicted one may lie: half of a membrane's width."""
FLAT_ONLY = (SkeletonRecall,)
"""Not defined in volumes."""


def fast() -> Panel:
    """Nothing beside the pixel scores."""
    return {}


def full() -> Panel:
    """How the field judges: cells that are separated, and borders that are where they should be."""
    return {
        "cells": (VRand(), VInfo(), AdaptedRand(), VariationOfInformation()),
        "borders": (TolerantF1(TOLERANCE_NM), SurfaceDistances(), SkeletonRecall(TOLERANCE_NM, SHORTEST_BREAK_NM)),
    }


PANELS: Mapping[PanelName, Callable[[], Panel]] = {"fast": fast, "full": full}


def panel_row(panel: Panel, compared: Callable[[], Comparison]) -> Row:
    """All numbers of one mosaic by column; NaN for metrics that volumes do not have.

    Args:
        panel: What to measure.
        compared: Makes a new comparison, one a heading: metrics under different ones share little, and what the first
            have kept would take a third of the memory.
    """
    row: Row = {}
    for metrics in panel.values():
        comparison = compared()
        for metric in metrics:
            missing = comparison.labels.ndim > 2 and isinstance(metric, FLAT_ONLY)
            row |= dict.fromkeys(metric.columns, np.nan) if missing else metric.named(comparison)
        del comparison  # before the next one is filled
    return row
