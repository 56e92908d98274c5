"""Runs side by side: differences of means, and statistics over the mosaics that both scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_emseg.report.page.paired import common_mosaics, paired
from lightning_emseg.report.page.run_files import VERBS, Run
from lightning_emseg.report.page.score_file import Scores
from lightning_emseg.report.page.tables import Cell, Table, mean_cell, number_cell
from lightning_emseg.report.page.wording import count, title

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
    table: Table | None


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Every further run against the first, for each verb that both have scores of."""
    return [
        _compare(verb, runs[0], run)
        for verb in VERBS
        for run in runs[1:]
        if verb in run.scores and verb in runs[0].scores
    ]


def _compare(verb: str, base: Run, other: Run) -> Comparison:
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
    return Comparison(name, list(_remarks(keys, first, second)), Table(name, header, rows))


def _row(column: str, keys: Sequence[str], first: Scores, second: Scores) -> list[Cell]:
    mine, other = ([scores.values(column)[key] for key in keys] for scores in (first, second))
    found = paired(mine, other)
    pairs = [pair for pair in zip(mine, other, strict=True) if pair[0] == pair[0] and pair[1] == pair[1]]
    means = [sum(values) / len(values) for values in zip(*pairs, strict=True)] or [float("nan")] * 2
    difference = mean_cell(found.difference, found.se)
    signed = Cell(("+" if found.difference > 0 else "") + difference.text, found.difference, difference.full)
    tests = [number_cell(found.t_p), number_cell(found.wilcoxon_p)]
    return [Cell(title(column)), *map(number_cell, means), signed, number_cell(found.mosaics), *tests]


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
