"""Scores as three competitions computed them, over all images of a comparison."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from data_modules.errors import UserError
from lightning_emseg.evaluation.reading import LoadedPair
from lightning_emseg.evaluation.score_table import Row
from lightning_emseg.metrics.boundary.distances import CLEFT_DISTANCES
from lightning_emseg.metrics.boundary.tolerance import urisc_binary_score, urisc_score
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.segmentation.cells import ThresholdCurve, curve_of, mean_curve, sweep_of
from lightning_emseg.metrics.segmentation.contingency import Contingency, SplitMerge
from lightning_emseg.metrics.segmentation.scores import v_info, v_rand

OfficialName = Literal["urisc", "isbi2012", "cremi"]
IN_NM: frozenset[OfficialName] = frozenset({"cremi"})
"""Those whose scores need the size of a pixel."""


@dataclass(frozen=True)
class OfficialScores:
    """What a competition says.

    Attributes:
        rows: By key, columns that begin with the competition's name; their mean is the score of the whole set.
        lines: For people, one a score.
        record: JSON-ready.
    """

    rows: Mapping[str, Row]
    lines: list[str] = field(default_factory=list)
    record: Mapping[str, Any] = field(default_factory=dict)


class Official(Protocol):
    """Takes one image after the other."""

    def add(self, key: str, loaded: LoadedPair, comparison: MosaicPair) -> None:
        """Measure one."""

    def scores(self) -> OfficialScores:
        """What all of them give."""


class UriscOfficial:
    """The score of the U-RISC competition, against the truth's grey values, and F1 proper as ``urisc_binary_f1``."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def add(self, key: str, loaded: LoadedPair, comparison: MosaicPair) -> None:
        """Measure one.

        Raises:
            UserError: if it is a volume.
        """
        if loaded.truth.ndim != 2:
            raise UserError(f"{key} is a volume, and --official urisc scores images: leave it out")
        predicted = comparison.predicted
        found = urisc_score(~loaded.truth_grey, predicted, name=key)
        self._rows[key] = {
            "urisc_f1": found.f1,
            "urisc_precision": found.precision,
            "urisc_recall": found.recall,
            "urisc_binary_f1": urisc_binary_score(comparison.truth, predicted).f1,
        }

    def scores(self) -> OfficialScores:
        """A row an image; the competition's score is their mean."""
        return OfficialScores(self._rows)


_ISBI_SCORES: Mapping[str, Callable[[Contingency], SplitMerge]] = {"v_rand": v_rand, "v_info": v_info}


class Isbi2012Official:
    """V-Rand and V-Info after border thinning, each at the threshold that is best for the mean over sections."""

    def __init__(self) -> None:
        self._curves: dict[str, dict[str, ThresholdCurve]] = {name: {} for name in _ISBI_SCORES}

    def add(self, key: str, loaded: LoadedPair, comparison: MosaicPair) -> None:
        """Measure one at all of the competition's thresholds."""
        tables = sweep_of(comparison, thinned=True)
        for name, score in _ISBI_SCORES.items():
            self._curves[name][key] = curve_of(tables, score)

    def scores(self) -> OfficialScores:
        """A row an image; sections whose truth has no cell have no score, and no part in the mean."""
        rows: dict[str, Row] = {key: {} for curves in self._curves.values() for key in curves}
        lines, record = [], {}
        for name, curves in self._curves.items():
            usable = [curve for curve in curves.values() if not math.isnan(curve.maximum)]
            mean = mean_curve(usable or list(curves.values()))
            at = 0 if mean.best_level is None else mean.levels.index(mean.best_level)
            for key, curve in curves.items():
                rows[key][f"isbi2012_{name}"] = curve.f[at]
            thresholds = [level / 255 for level in mean.levels]
            record[name] = {
                "maximum": _or_none(mean.maximum),
                "threshold": None if mean.best_level is None else thresholds[at],
                "by_threshold": {"threshold": thresholds, "mean": [_or_none(value) for value in mean.f]},
            }
            if mean.best_level is not None:
                lines.append(f"isbi2012 {name}: {mean.maximum:.6f} at threshold {thresholds[at]:.3f}, after thinning")
        return OfficialScores(rows, lines, record)


class CremiOfficial:
    """Distances of the CREMI challenge's clefts, see :data:`~.cleft_scores.CLEFT_DISTANCES`."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def add(self, key: str, loaded: LoadedPair, comparison: MosaicPair) -> None:
        """Measure one."""
        found = CLEFT_DISTANCES.named(comparison)
        self._rows[key] = {f"cremi_{name.removeprefix('cremi_')}": value for name, value in found.items()}

    def scores(self) -> OfficialScores:
        """A row a volume; the challenge's score is their mean."""
        return OfficialScores(self._rows)


OFFICIALS: Mapping[OfficialName, Callable[[], Official]] = {
    "urisc": UriscOfficial,
    "isbi2012": Isbi2012Official,
    "cremi": CremiOfficial,
}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
