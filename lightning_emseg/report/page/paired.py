"""Whether two runs differ on the same mosaics."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lightning_emseg.metrics.table import summarise
from lightning_emseg.report.page.score_file import Scores


@dataclass(frozen=True)
class Paired:
    """Differences second − first of one score over the mosaics that both runs have it for.

    Attributes:
        mosaics: How many.
        difference: Mean; NaN without mosaics.
        se: Its standard error (ddof 1); NaN for fewer than two mosaics.
        t_p: Two-sided p of Student's paired t-test with n − 1 degrees; NaN for fewer than two mosaics, or where all
            differences are the same.
        wilcoxon_p: Two-sided p of Wilcoxon's signed-rank test, exact for small numbers without ties and zeros; NaN for
            fewer than two mosaics, or where nothing differs. With n mosaics it is never below 2 / 2ⁿ.
    """

    mosaics: int
    difference: float
    se: float
    t_p: float
    wilcoxon_p: float


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two runs by scores of the same mosaics, in the same order; a mosaic with a NaN is left out.

    Raises:
        ValueError: if the lengths differ.
    """
    pairs = [pair for pair in zip(first, second, strict=True) if all(map(math.isfinite, pair))]
    differences = np.array([b - a for a, b in pairs], np.float64)
    summary = summarise(differences.tolist())
    se = math.nan if summary.se is None else summary.se
    known = len(pairs) > 1
    # Where all differences are equal up to rounding, t would be infinite and its p a meaningless 0.
    spread = known and float(np.ptp(differences)) > 1e-12 * float(np.abs(pairs).max())
    t_p = float(stats.ttest_1samp(differences, 0).pvalue) if spread else math.nan
    wilcoxon_p = float(stats.wilcoxon(differences).pvalue) if known and differences.any() else math.nan
    return Paired(len(pairs), summary.mean, se, t_p, wilcoxon_p)


def common_mosaics(first: Scores, second: Scores) -> list[str]:
    """Mosaics that both runs scored against the same truth.

    Two stores may both have a ``test/15``: mosaics count as the same when their names and, where the scores have them,
    their numbers of true foreground and background pixels agree.
    """
    return [key for key in first.rows if key in second.rows and _same(first, second, key)]


def _same(first: Scores, second: Scores, key: str) -> bool:
    mine, other = _truth(first, key), _truth(second, key)
    return mine == other or any(map(math.isnan, (*mine, *other)))


def ambiguous(many: Iterable[Scores]) -> set[str]:
    """Names that stand for different mosaics in different runs."""
    truths: dict[str, set[tuple[float, float]]] = {}
    for scores in many:
        for key in scores.rows:
            truth = _truth(scores, key)
            if not any(map(math.isnan, truth)):
                truths.setdefault(key, set()).add(truth)
    return {key for key, found in truths.items() if len(found) > 1}


def _truth(scores: Scores, key: str) -> tuple[float, float]:
    row = scores.rows[key]
    tp, fp, fn, tn = (row.get(name, math.nan) for name in ("tp", "fp", "fn", "tn"))
    return tp + fn, fp + tn
