"""Scores as three competitions computed them, over all images of an evaluation."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.evaluation.reading import LoadedPair
from lightning_emseg.evaluation.score_table import Row
from lightning_emseg.metrics.boundary.distances import CLEFT_DISTANCES
from lightning_emseg.metrics.boundary.tolerance import urisc_binary_score, urisc_score
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.segmentation.cells import ThresholdCurve, average_curves, score_levels, tabulate_sweep
from lightning_emseg.metrics.segmentation.scores import v_info, v_rand

Competition = Literal["urisc", "isbi2012", "cremi"]


def urisc_row(key: str, loaded: LoadedPair, pair: MosaicPair) -> Row:
    """Score one image as the U-RISC competition, against the truth's grey values; F1 proper as ``urisc_binary_f1``.

    Raises:
        UserError: if it is a volume.
    """
    if loaded.truth.ndim != 2:
        raise UserError(f"{key} is a volume, and --official urisc scores images: leave it out")
    grey = np.uint8(255) * (loaded.truth == 1) if loaded.noisy_truth is None else loaded.noisy_truth
    grey = np.where(loaded.truth == IGNORE, np.uint8(0), grey)
    found = urisc_score(~grey, pair.predicted, name=key)
    return {
        "urisc_f1": found.f1,
        "urisc_precision": found.precision,
        "urisc_recall": found.recall,
        "urisc_binary_f1": urisc_binary_score(pair.truth, pair.predicted).f1,
    }


def cremi_row(pair: MosaicPair) -> Row:
    """Score one volume as the CREMI challenge's clefts; the challenge's score is the mean over volumes."""
    values = CLEFT_DISTANCES.row(pair)
    return {f"cremi_{name.removeprefix('cremi_')}": x for name, x in zip(CLEFT_DISTANCES.columns, values, strict=True)}


def isbi2012_curves(pair: MosaicPair) -> dict[str, ThresholdCurve]:
    """Score one section at all thresholds of ISBI 2012, after border thinning."""
    tables = tabulate_sweep(pair, thinned=True)
    return {"v_rand": score_levels(tables, v_rand), "v_info": score_levels(tables, v_info)}


def isbi2012_scores(
    sections: Mapping[str, Mapping[str, ThresholdCurve]],
) -> tuple[dict[str, Row], list[str], dict[str, Any]]:
    """Score a stack as ISBI 2012: V-Rand and V-Info, each at the threshold that is best for the mean over sections.

    Args:
        sections: Curves of :func:`isbi2012_curves` by key.

    Returns:
        A row a section, a sentence a score, and a JSON-ready record. Sections whose truth has no cell have no score,
        and no part in the mean.
    """
    rows: dict[str, Row] = {key: {} for key in sections}
    lines, record = [], {}
    for name in ("v_rand", "v_info"):
        curves = {key: each[name] for key, each in sections.items()}
        usable = [curve for curve in curves.values() if not math.isnan(curve.maximum)]
        mean = average_curves(usable or list(curves.values()))
        at = 0 if mean.best_level is None else mean.levels.index(mean.best_level)
        for key, curve in curves.items():
            rows[key][f"isbi2012_{name}"] = curve.f[at]
        thresholds = [level / 255 for level in mean.levels]
        record[name] = {
            "maximum": mean.maximum,
            "threshold": None if mean.best_level is None else thresholds[at],
            "by_threshold": {"threshold": thresholds, "mean": list(mean.f)},
        }
        if mean.best_level is not None:
            lines.append(f"isbi2012 {name}: {mean.maximum:.6f} at threshold {thresholds[at]:.3f}, after thinning")
    return rows, lines, record
