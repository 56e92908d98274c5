"""Scores of whole mosaics: tables, curves by threshold, bars, and what the papers print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_emseg.report.page.axis import Axis
from lightning_emseg.report.page.bars import mosaic_bars
from lightning_emseg.report.page.paired import ambiguous
from lightning_emseg.report.page.paper_values import CAVEATS, SPREAD, PaperValue, paper_values
from lightning_emseg.report.page.plot import Line, Look, Plot, line_plot, look
from lightning_emseg.report.page.run_files import VERBS, Run
from lightning_emseg.report.page.score_file import Scores
from lightning_emseg.report.page.tables import Cell, Table, mean_cell, number_cell
from lightning_emseg.report.page.wording import count, title
from lightning_emseg.report.text import threshold_text

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
    table: Table
    every: Table
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
    means: Table | None
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

    table: Table
    caveats: Sequence[str]


def verb_scores(runs: Sequence[Run]) -> list[VerbScores]:
    """Scores by verb; a verb of which no run has scores names all runs as missing them."""
    return [_of_verb(verb, runs) for verb in VERBS]


def beside_papers(runs: Sequence[Run]) -> list[Beside]:
    """Test scores beside printed values, of each data set that has any."""
    data_sets = dict.fromkeys(run.class_name("data") for run in runs if "test" in run.scores)
    return [_beside(name, values, runs) for name in data_sets if (values := paper_values(name))]


def _of_verb(verb: str, runs: Sequence[Run]) -> VerbScores:
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


def _mosaic_table(caption: str, scores: Scores, columns: Sequence[str]) -> Table:
    rows = [[Cell(key), *(number_cell(scores.values(column)[key]) for column in columns)] for key in scores.rows]
    foot = [Cell("mean ± SE"), *(_mean(scores, column) for column in columns)]
    return Table(caption, ["mosaic", *map(title, columns)], rows, [foot] if rows else ())


def _mean(scores: Scores, column: str) -> Cell:
    summary = scores.summary(column)
    return mean_cell(summary.mean, summary.se)


def _means(found: Mapping[str, Scores], columns: Sequence[str]) -> Table:
    rows = [
        [Cell(name), number_cell(len(scores.rows)), *(_mean(scores, column) for column in columns)]
        for name, scores in found.items()
    ]
    return Table("Mean ± SE over mosaics", ["run", "mosaics", *map(title, columns)], rows)


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


def _beside(data_set: str, values: Sequence[PaperValue], runs: Sequence[Run]) -> Beside:
    mine = [run for run in runs if run.class_name("data") == data_set and "test" in run.scores]
    rows = []
    for run in mine:
        scores = run.scores["test"]
        for klass in (scores.label, "background"):
            column, text = f"{klass}_f1", count(len(scores.rows), "test mosaic")
            rows.append([Cell(f"run {run.name}"), _mean(scores, column), Cell(klass), Cell(text), Cell("this page")])
    networks = {run.class_name("model") for run in mine}
    marked = frozenset(len(rows) + number for number, value in enumerate(values) if value.module in networks)
    for value in values:
        printed = Cell(" ± ".join(filter(None, [value.f1, value.spread])), float(value.f1))
        rows.append([Cell(value.who), printed, Cell("class not said"), Cell(value.subset), Cell(value.source)])
    table = Table(f"{data_set}: F1 beside printed values", ["who", "F1", "class", "images", "source"], rows, (), marked)
    return Beside(table, [*filter(None, [CAVEATS.get(data_set)]), SPREAD])
