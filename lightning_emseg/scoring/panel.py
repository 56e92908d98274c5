"""Which metrics a panel has beside the pixel scores: the one list of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from lightning_emseg.metrics.boundary.breaks import SHORTEST_BREAK_NM, skeleton_recall
from lightning_emseg.metrics.boundary.surface_scores import SURFACE_DISTANCES
from lightning_emseg.metrics.boundary.tolerance import tolerant_f1
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_score import MosaicScore
from lightning_emseg.metrics.segmentation.cell_rows import cell_score
from lightning_emseg.metrics.segmentation.information_scores import VARIATION_OF_INFORMATION, v_info
from lightning_emseg.metrics.segmentation.rand_scores import ADAPTED_RAND, v_rand
from lightning_emseg.metrics.table import Row

PanelName = Literal["fast", "full"]
Panel = Mapping[str, Sequence[MosaicScore]]
"""Scores by the heading that their columns stand under."""

TOLERANCE_NM = 10.0
"""How far beside a true membrane a predicted one may lie: half of a membrane's width."""


def fast() -> Panel:
    """Nothing beside the pixel scores."""
    return {}


def full() -> Panel:
    """How the field judges: cells that are separated, and borders that are where they should be."""
    return {
        "cells": (cell_score("v_rand", v_rand), cell_score("v_info", v_info), ADAPTED_RAND, VARIATION_OF_INFORMATION),
        "borders": (tolerant_f1([TOLERANCE_NM]), SURFACE_DISTANCES, skeleton_recall(TOLERANCE_NM, SHORTEST_BREAK_NM)),
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
    for scores in panel.values():
        comparison = compared()
        for score in scores:
            missing = comparison.labels.ndim > 2 and score.planes_only
            row |= dict.fromkeys(score.columns, np.nan) if missing else score.named(comparison)
        del comparison  # before the next one is filled
    return row
