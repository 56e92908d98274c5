"""Scores of runs, beside those of papers and beside each other."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lightning_emseg.core.tables import mean_se
from lightning_emseg.evaluation.score_table import threshold_text
from lightning_emseg.results.files import Scores
from lightning_emseg.results.page.charts import Axis, Line, Look, Plot, line_plot, look, mosaic_bars
from lightning_emseg.results.page.tables import PageCell, PageTable, count, mean_cell, number_cell, title
from lightning_emseg.results.papers import CAVEATS, SPREAD, PaperValue, paper_values
from lightning_emseg.results.runs import VERBS, RunFolder


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
    summary = mean_se(differences.tolist())
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


_UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class RunScores:
    """Scores of one run.

    Attributes:
        run: Its name.
        remark: Threshold, and how it was chosen.
        table: A row a mosaic; the columns that matter most.
        every: The same with all columns.
        partial: Mosaics that were not scored, and why.
    """

    run: str
    remark: str
    table: PageTable
    every: PageTable
    partial: Sequence[str]


@dataclass(frozen=True)
class VerbScores:
    """Scores of all runs by one verb.

    Attributes:
        verb: ``test`` or ``validate``.
        means: A row a run; ``None`` for a single run.
        runs: Of each run.
        curves: By threshold.
        bars: F1 of each mosaic.
        further_bars: Of the other columns.
        missing: Names of runs without these scores.
        no_precision: Names of runs whose scores hold no precision and recall by threshold.
    """

    verb: str
    means: PageTable | None
    runs: Sequence[RunScores]
    curves: Sequence[Plot]
    bars: Sequence[Plot]
    further_bars: Sequence[Plot]
    missing: Sequence[str]
    no_precision: Sequence[str]


@dataclass(frozen=True)
class Beside:
    """Runs on one data set beside the values that papers print.

    Attributes:
        table: Ours first.
        caveats: What to know before comparing.
    """

    table: PageTable
    caveats: Sequence[str]


def verb_scores(runs: Sequence[RunFolder]) -> list[VerbScores]:
    """Scores by verb; a verb of which no run has scores names all runs as missing them."""
    return [_of_verb(verb, runs) for verb in VERBS]


def beside_papers(runs: Sequence[RunFolder]) -> list[Beside]:
    """Test scores beside printed values, of each data set that has any."""
    data_sets = dict.fromkeys(run.class_name("data") for run in runs if "test" in run.scores)
    return [_beside(name, values, runs) for name in data_sets if (values := paper_values(name))]


def _of_verb(verb: str, runs: Sequence[RunFolder]) -> VerbScores:
    found = {run.name: run.scores[verb] for run in runs if verb in run.scores}
    columns = list(dict.fromkeys(column for scores in found.values() for column in scores.main_columns))
    numbers = {run.name: number for number, run in enumerate(runs)}
    bars = {column: mosaic_bars(title(column), _column(found, column, numbers), numbers) for column in columns}
    first = {scores.f1_column for scores in found.values()}
    looks = {name: look(number) for name, number in numbers.items()}
    return VerbScores(
        verb,
        _means(found, columns) if len(found) > 1 else None,
        [_run_scores(name, scores) for name, scores in found.items()],
        [*_threshold_plots(found, looks)],
        [bars[column] for column in columns if column in first],
        [bars[column] for column in columns if column not in first],
        [run.name for run in runs if verb not in run.scores],
        [name for name, scores in found.items() if not (scores.curve.precision and scores.curve.recall)],
    )


def _column(found: Mapping[str, Scores], column: str, numbers: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """A column by run and mosaic; mosaics of one name that are not the same have the number of their run with it."""
    several = ambiguous(found.values())
    return {
        name: {
            f"{key} ({numbers[name] + 1})" if key in several else key: value
            for key, value in scores.values(column).items()
        }
        for name, scores in found.items()
    }


def _run_scores(name: str, scores: Scores) -> RunScores:
    return RunScores(
        name,
        threshold_text(scores.threshold, scores.criterion),
        _mosaic_table(f"{name}: {count(len(scores.rows), 'mosaic')}", scores, scores.main_columns),
        _mosaic_table(f"{name}: all columns", scores, scores.columns),
        [f"{key}: {seen:,} of {total:,} pixels seen" for key, (seen, total) in scores.partial.items()],
    )


def _mosaic_table(caption: str, scores: Scores, columns: Sequence[str]) -> PageTable:
    rows = [[PageCell(key), *(number_cell(scores.values(column)[key]) for column in columns)] for key in scores.rows]
    foot = [PageCell("mean ± SE"), *(_mean(scores, column) for column in columns)]
    return PageTable(caption, ["mosaic", *map(title, columns)], rows, [foot] if rows else ())


def _mean(scores: Scores, column: str) -> PageCell:
    summary = scores.summary(column)
    return mean_cell(summary.mean, summary.se)


def _means(found: Mapping[str, Scores], columns: Sequence[str]) -> PageTable:
    rows = [
        [PageCell(name), number_cell(len(scores.rows)), *(_mean(scores, column) for column in columns)]
        for name, scores in found.items()
    ]
    return PageTable("Mean ± SE over mosaics", ["run", "mosaics", *map(title, columns)], rows)


def _threshold_plots(found: Mapping[str, Scores], looks: Mapping[str, Look]) -> list[Plot]:
    by_threshold, recalls = [], []
    for name, scores in found.items():
        curve = scores.curve
        chosen = [index for index, at in enumerate(curve.threshold) if at >= scores.threshold - 1e-4][:1]
        if curve.f1:
            by_threshold.append(Line(name, curve.threshold, curve.f1, looks[name], marked=tuple(chosen)))
        if curve.precision and curve.recall:
            recalls.append(Line(name, curve.recall, curve.precision, looks[name], marked=tuple(chosen)))
    unit = Axis("mean F1", limits=_UNIT)
    plots = [line_plot("F1 by threshold", by_threshold, Axis("threshold", limits=_UNIT), unit)] if by_threshold else []
    if recalls:
        axes = Axis("mean recall", limits=_UNIT), Axis("mean precision", limits=_UNIT)
        plots.append(line_plot("Precision and recall", recalls, *axes))
    return plots


def _beside(data_set: str, values: Sequence[PaperValue], runs: Sequence[RunFolder]) -> Beside:
    mine = [run for run in runs if run.class_name("data") == data_set and "test" in run.scores]
    rows = []
    for run in mine:
        scores = run.scores["test"]
        for klass in (scores.label, "background"):
            column, text = f"{klass}_f1", count(len(scores.rows), "test mosaic")
            rows.append(
                [
                    PageCell(f"run {run.name}"),
                    _mean(scores, column),
                    PageCell(klass),
                    PageCell(text),
                    PageCell("this page"),
                ]
            )
    networks = {run.class_name("model") for run in mine}
    marked = frozenset(len(rows) + number for number, value in enumerate(values) if value.module in networks)
    for value in values:
        printed = PageCell(" ± ".join(filter(None, [value.f1, value.spread])), float(value.f1))
        rows.append(
            [PageCell(value.who), printed, PageCell("class not said"), PageCell(value.subset), PageCell(value.source)]
        )
    table = PageTable(
        f"{data_set}: F1 beside printed values", ["who", "F1", "class", "images", "source"], rows, (), marked
    )
    return Beside(table, [*filter(None, [CAVEATS.get(data_set)]), SPREAD])


_COLUMNS = ("score", "{first}", "{second}", "difference ± SE", "mosaics", "p, paired t", "p, Wilcoxon")


@dataclass(frozen=True)
class Comparison:
    """Two runs by one verb.

    Attributes:
        title: Both names and the verb.
        remarks: On which mosaics, or why there is no table.
        table: A row a score; ``None`` where nothing can be compared.
    """

    title: str
    remarks: Sequence[str]
    table: PageTable | None


def comparisons(runs: Sequence[RunFolder]) -> list[Comparison]:
    """Every further run against the first, for each verb that both have scores of."""
    return [
        _compare(verb, runs[0], run)
        for verb in VERBS
        for run in runs[1:]
        if verb in run.scores and verb in runs[0].scores
    ]


def _compare(verb: str, base: RunFolder, other: RunFolder) -> Comparison:
    first, second = base.scores[verb], other.scores[verb]
    name = f"{other.name} − {base.name} ({verb})"
    keys = common_mosaics(first, second)
    if not keys:
        return Comparison(name, ["Not compared: the runs did not score the same mosaics."], None)
    columns = [column for column in first.main_columns if column in second.main_columns]
    if not columns:
        return Comparison(name, ["Not compared: the runs have no score in common."], None)
    rows = [_row(column, keys, first, second) for column in columns]
    header = [text.format(first=base.name, second=other.name) for text in _COLUMNS]
    return Comparison(name, list(_remarks(keys, first, second)), PageTable(name, header, rows))


def _row(column: str, keys: Sequence[str], first: Scores, second: Scores) -> list[PageCell]:
    mine, other = ([scores.values(column)[key] for key in keys] for scores in (first, second))
    found = paired(mine, other)
    pairs = [pair for pair in zip(mine, other, strict=True) if pair[0] == pair[0] and pair[1] == pair[1]]
    means = [sum(values) / len(values) for values in zip(*pairs, strict=True)] or [float("nan")] * 2
    difference = mean_cell(found.difference, found.se)
    signed = PageCell(("+" if found.difference > 0 else "") + difference.text, found.difference, difference.full)
    tests = [number_cell(found.t_p), number_cell(found.wilcoxon_p)]
    return [PageCell(title(column)), *map(number_cell, means), signed, number_cell(found.mosaics), *tests]


def _remarks(keys: Sequence[str], first: Scores, second: Scores) -> list[str]:
    same = len(keys) == len(first.rows) == len(second.rows)
    which = f"Over {count(len(keys), 'mosaic')} that both runs scored" + (
        "." if same else f": {len(first.rows)} and {len(second.rows)} were scored, the others are left out."
    )
    remarks = [which]
    if len(keys) == 1:
        remarks.append("One mosaic allows no test.")
    else:
        remarks.append(
            f"p values are two-sided and not corrected for the number of rows; with {len(keys)} mosaics, Wilcoxon's "
            f"is never below {2.0 ** (1 - len(keys)):.3g}."
        )
    return remarks
