"""Scores of runs: tables, curves by threshold, bars, papers' values, and differences between runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lightning_emseg.core.tables import MeanSE, mean_se
from lightning_emseg.evaluation.score_table import COUNTS, ScoreTable, threshold_text
from lightning_emseg.results.page.charts import Chart, ChartLine, line_chart, mosaic_bars
from lightning_emseg.results.page.tables import PageCell, PageTable, column_title, count, mean_cell, number_cell
from lightning_emseg.results.papers import PaperScores, paper_scores
from lightning_emseg.results.runs import VERBS, CollectedRun

_COMPARED = ("score", "{first}", "{second}", "difference ± SE", "mosaics", "p, paired t", "p, Wilcoxon")


class PairedDifference(NamedTuple):
    """Differences second − first of one score over the mosaics that both runs have it for.

    Attributes:
        mosaics: Number of mosaics.
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


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare two runs by scores of the same mosaics, in the same order; a mosaic with a NaN is left out.

    Raises:
        ValueError: if the lengths differ.
    """
    pairs = [pair for pair in zip(first, second, strict=True) if all(map(math.isfinite, pair))]
    differences = np.array([b - a for a, b in pairs], np.float64)
    summary = mean_se(differences.tolist())
    known = len(pairs) > 1
    # Where all differences are equal up to rounding, t would be infinite and its p a meaningless 0.
    spread = known and float(np.ptp(differences)) > 1e-12 * float(np.abs(pairs).max())
    t_p = float(stats.ttest_1samp(differences, 0).pvalue) if spread else math.nan
    wilcoxon_p = float(stats.wilcoxon(differences).pvalue) if known and differences.any() else math.nan
    return PairedDifference(len(pairs), summary.mean, math.nan if summary.se is None else summary.se, t_p, wilcoxon_p)


def common_mosaics(first: ScoreTable, second: ScoreTable) -> list[str]:
    """List the mosaics that both runs scored against the same truth.

    Two stores may both have a ``test/15``: mosaics count as the same when their names and, where the scores have them,
    their numbers of true foreground and background pixels agree.
    """

    def is_same(key: str) -> bool:
        mine, other = _truth(first, key), _truth(second, key)
        return mine == other or any(map(math.isnan, (*mine, *other)))

    return [key for key in first.rows if key in second.rows and is_same(key)]


def ambiguous_mosaics(many: Iterable[ScoreTable]) -> set[str]:
    """Find names that stand for different mosaics in different runs."""
    truths: dict[str, set[tuple[float, float]]] = {}
    for scores in many:
        for key in scores.rows:
            truth = _truth(scores, key)
            if not any(map(math.isnan, truth)):
                truths.setdefault(key, set()).add(truth)
    return {key for key, found in truths.items() if len(found) > 1}


def score_section(runs: Sequence[CollectedRun]) -> dict[str, Any]:
    """Build the scores of each verb, and test scores beside printed values of each data set that has any.

    A verb of which no run has scores names all runs as missing them.
    """
    data_sets = dict.fromkeys(run.class_name("data") for run in runs if "test" in run.scores)
    papers = [paper for name in data_sets for paper in paper_scores() if paper.data == name]
    return {"papers": [_beside(paper, runs) for paper in papers], "verbs": [_of_verb(verb, runs) for verb in VERBS]}


def comparisons(runs: Sequence[CollectedRun]) -> list[tuple[str, list[str], PageTable | None]]:
    """Compare every further run with the first, for each verb that both have scores of: title, remarks and table."""
    return [
        _compare(verb, runs[0], run)
        for verb in VERBS
        for run in runs[1:]
        if verb in run.scores and verb in runs[0].scores
    ]


def _truth(scores: ScoreTable, key: str) -> tuple[float, float]:
    tp, fp, fn, tn = (scores.rows[key].get(name, math.nan) for name in COUNTS)
    return tp + fn, fp + tn


def _mean(scores: ScoreTable, column: str) -> PageCell:
    return mean_cell(mean_se(scores.values(column).values()))


def _beside(paper: PaperScores, runs: Sequence[CollectedRun]) -> dict[str, Any]:
    mine = [run for run in runs if run.class_name("data") == paper.data and "test" in run.scores]
    rows = []
    for run in mine:
        scores = run.scores["test"]
        for name in (scores.label, "background"):
            images = count(len(scores.rows), "test mosaic")
            cells = PageCell(f"run {run.name}"), _mean(scores, f"{name}_f1")
            rows.append([*cells, PageCell(name), PageCell(images), PageCell("this page")])
    networks = {run.class_name("model") for run in mine}
    marked = {len(rows) + number for number, row in enumerate(paper.rows) if row.network in networks}
    for row in paper.rows:
        printed = PageCell(row.f1, float(row.f1.partition(" ")[0]))
        rows.append([PageCell(row.who), printed, *map(PageCell, (paper.foreground, row.images, paper.source))])
    header = ["who", "F1", "class", "images", "source"]
    table = PageTable(f"{paper.data}: F1 beside printed values", header, rows, marked=frozenset(marked))
    return {"table": table, "remarks": paper.remarks}


def _of_verb(verb: str, runs: Sequence[CollectedRun]) -> dict[str, Any]:
    found = {run.name: run.scores[verb] for run in runs if verb in run.scores}
    columns = list(dict.fromkeys(column for scores in found.values() for column in scores.main_columns))
    numbers = {run.name: number for number, run in enumerate(runs)}
    several = ambiguous_mosaics(found.values())
    bars: dict[bool, list[Chart]] = {True: [], False: []}
    for column in columns:
        # Mosaics of one name that are not the same have the number of their run with it.
        values = {
            name: {
                f"{key} ({numbers[name] + 1})" if key in several else key: value
                for key, value in scores.values(column).items()
            }
            for name, scores in found.items()
        }
        is_main = any(column == f"{scores.label}_f1" for scores in found.values())
        bars[is_main].append(mosaic_bars(column_title(column), values, numbers))
    means = [
        [PageCell(name), number_cell(len(scores.rows)), *(_mean(scores, column) for column in columns)]
        for name, scores in found.items()
    ]
    header = ["run", "mosaics", *map(column_title, columns)]
    return {
        "verb": verb,
        "means": PageTable("Mean ± SE over mosaics", header, means) if len(found) > 1 else None,
        "runs": [_of_run(name, scores) for name, scores in found.items()],
        "charts": [*bars[True], *_threshold_charts(found, numbers)],
        "further": bars[False],
        "missing": [run.name for run in runs if verb not in run.scores],
        "no_recall": [name for name, scores in found.items() if not scores.curves.get("mean_recall")],
    }


def _of_run(name: str, scores: ScoreTable) -> dict[str, Any]:
    tables = []
    for caption, columns in ((count(len(scores.rows), "mosaic"), scores.main_columns), ("all columns", scores.columns)):
        rows = [
            [PageCell(key), *(number_cell(row.get(c, math.nan)) for c in columns)] for key, row in scores.rows.items()
        ]
        foot = [PageCell("mean ± SE"), *(_mean(scores, column) for column in columns)]
        header = ["mosaic", *map(column_title, columns)]
        tables.append(PageTable(f"{name}: {caption}", header, rows, [foot] if rows else ()))
    partial = [f"{key}: {seen:,} of {total:,} pixels seen" for key, (seen, total) in scores.partial.items()]
    remark = threshold_text(scores.threshold, scores.criterion)
    return {"name": name, "table": tables[0], "every": tables[1], "remark": remark, "partial": partial}


def _threshold_charts(found: Mapping[str, ScoreTable], numbers: Mapping[str, int]) -> list[Chart]:
    by_threshold: list[ChartLine] = []
    recalls: list[ChartLine] = []
    for name, scores in found.items():
        thresholds = [level / 255 for level in range(256)]
        f1, recall, precision = (scores.curves.get(f"mean_{curve}", ()) for curve in ("f1", "recall", "precision"))
        chosen = [index for index, at in enumerate(thresholds) if at >= scores.threshold - 1e-4][:1]
        for lines, x, y in ((by_threshold, thresholds, f1), (recalls, recall, precision)):
            if x and y:
                lines.append(ChartLine(name, x, y, numbers[name], marked=chosen))
    charts = []
    for text, lines, x_label, y_label in (
        ("F1 by threshold", by_threshold, "threshold", "mean F1"),
        ("Precision and recall", recalls, "mean recall", "mean precision"),
    ):
        if lines:
            charts.append(line_chart(text, lines, x_label, y_label, is_unit=True))
    return charts


def _compare(verb: str, base: CollectedRun, other: CollectedRun) -> tuple[str, list[str], PageTable | None]:
    first, second = base.scores[verb], other.scores[verb]
    name = f"{other.name} − {base.name} ({verb})"
    keys = common_mosaics(first, second)
    if not keys:
        return name, ["Not compared: the runs did not score the same mosaics."], None
    columns = [column for column in first.main_columns if column in second.main_columns]
    if not columns:
        return name, ["Not compared: the runs have no score in common."], None
    rows = [
        _compared(column, [[each.values(column)[key] for key in keys] for each in (first, second)])
        for column in columns
    ]
    left_out = f": {len(first.rows)} and {len(second.rows)} were scored, the others are left out."
    is_same = len(keys) == len(first.rows) == len(second.rows)
    tests = (
        f"p values are two-sided and not corrected for the number of rows; with {len(keys)} mosaics, Wilcoxon's is "
        f"never below {2.0 ** (1 - len(keys)):.3g}."
    )
    remarks = [
        f"Over {count(len(keys), 'mosaic')} that both runs scored" + ("." if is_same else left_out),
        "One mosaic allows no test." if len(keys) == 1 else tests,
    ]
    header = [text.format(first=base.name, second=other.name) for text in _COMPARED]
    return name, remarks, PageTable(name, header, rows)


def _compared(column: str, values: Sequence[Sequence[float]]) -> list[PageCell]:
    found = paired_difference(*values)
    pairs = [pair for pair in zip(*values, strict=True) if not any(map(math.isnan, pair))]
    means = [sum(each) / len(each) for each in zip(*pairs, strict=True)] or [math.nan] * 2
    difference = mean_cell(MeanSE(found.difference, found.se, found.mosaics))
    sign = "+" if found.difference > 0 else ""
    signed = PageCell(sign + difference.text, found.difference, difference.full)
    tests = map(number_cell, (found.mosaics, found.t_p, found.wilcoxon_p))
    return [PageCell(column_title(column)), *map(number_cell, means), signed, *tests]
