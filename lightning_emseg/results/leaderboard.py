"""Leaderboards: what papers print beside what was measured here, as a table of a document."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import UserError
from lightning_emseg.core.tables import MeanSE, mean_se, to_number, write_json
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.results.files import environment_file, read_object
from lightning_emseg.results.papers import paper_scores
from lightning_emseg.results.runs import VERBS, CollectedRun

BEGIN, END = "<!-- emseg leaderboard: begin -->", "<!-- emseg leaderboard: end -->"
_KEYS = ("experiment", "base", "data", "paper", "how")
_ADVICE = "run `lightning test` with its config first"
_PACKAGES = ("lightning-emseg", "torch", "pytorch-lightning")


@dataclass(frozen=True)
class LeaderboardRow:
    """Row of a leaderboard.

    Attributes:
        experiment: File below ``experiments/``.
        base: File below ``experiments/`` that this one is a variation of; empty for a complete one.
        data: Data that it is trained on.
        paper: Printed scores by column of the score files.
        how: How it was run here.
    """

    experiment: str
    base: str
    data: str
    paper: Mapping[str, str]
    how: str


@dataclass(frozen=True)
class MeasuredScores:
    """Scores that were measured for an experiment.

    Attributes:
        scores: Means by column of the score files, e.g. ``membrane_f1``.
        threshold: Probability from which on a pixel counts as foreground.
        criterion: How the threshold was chosen.
        versions: Versions of the packages that it was measured with.
        commit: Commit of the working copy; empty outside of one.
        verb: ``test``, or ``validate`` where nothing was tested.
    """

    scores: Mapping[str, MeanSE]
    threshold: float
    criterion: str
    versions: Mapping[str, str]
    commit: str
    verb: str = "test"


def read_leaderboard(path: Path) -> tuple[dict[str, str], list[LeaderboardRow]]:
    """Read the headings by column of the score files, and the rows of a leaderboard.

    A row's ``paper`` is what its paper prints, of the first column unless it names columns; by default what
    ``papers.yaml`` has of the experiment.

    Raises:
        UserError: if the file is missing, has no columns or rows, names an experiment twice, or has what a paper prints
            of a column that it does not name.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as the rows of a table ({error})") from None
    columns, rows = (content.get(key) for key in ("columns", "rows")) if isinstance(content, dict) else (None, None)
    if not isinstance(columns, dict) or not columns:
        raise UserError(f"{path} has to have `columns`, a heading for each column of the score files that is shown")
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise UserError(f"{path} has to have `rows`, a list with the keys {', '.join(_KEYS)}")
    headings = {str(column): str(heading) for column, heading in columns.items()}
    found = [_row(path, each, headings) for each in rows]
    names = [row.experiment for row in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} names {', '.join(twice)} twice")
    return headings, found


def read_measured(path: Path) -> dict[str, MeasuredScores]:
    """Read collected scores by experiment; none where there is no file yet.

    Raises:
        UserError: if the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return {
            name: MeasuredScores(
                **{
                    **each,
                    "scores": {key: MeanSE(**score) for key, score in each["scores"].items()},
                    "threshold": to_number(each["threshold"]),
                }
            )
            for name, each in read_object(path).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): move it away and collect the runs again") from None


def write_measured(path: Path, measured: Mapping[str, MeasuredScores], order: Sequence[str]) -> None:
    """Write scores by experiment, in the order of the table."""
    write_json(path, {name: asdict(measured[name]) for name in order if name in measured})


def collect_scores(runs: Sequence[CollectedRun]) -> MeasuredScores:
    """Collect what finished tests have left in run folders; validations where nothing was tested.

    Args:
        runs: One run, whose scores are means over mosaics, or several of one experiment, as with other seeds: then the
            mean of each run counts once, and errors are over runs.

    Raises:
        UserError: if there are no scores of whole mosaics, or runs are neither all tested nor all validated.
    """
    found = [_scores(run) for run in runs]
    verbs = {verb for verb, _ in found}
    if len(verbs) > 1:
        names = ", ".join(str(run.folder) for run in runs)
        raise UserError(f"some of {names} were tested, others only validated: test all of them")
    (verb,) = verbs
    tables = [table for _, table in found]
    means = [{name: each.mean for name, each in table.summary.items()} for table in tables]
    rows = means if len(runs) > 1 else list(tables[0].rows.values())
    summaries = {name: mean_se([row.get(name, math.nan) for row in rows]) for name in rows[0]}
    environment = runs[0].environments.get(verb)
    if environment is None:
        raise runs[0].make_error(environment_file(verb), _ADVICE)
    packages = environment.get("packages") or {}
    return MeasuredScores(
        {name: each for name, each in summaries.items() if each.n},
        sum(table.threshold for table in tables) / len(tables),
        tables[0].criterion,
        {name: packages[name] for name in _PACKAGES if name in packages},
        str((environment.get("git") or {}).get("commit") or ""),
        verb,
    )


def leaderboard_table(
    headings: Mapping[str, str], rows: Sequence[LeaderboardRow], measured: Mapping[str, MeasuredScores]
) -> str:
    """Format a row an experiment as Markdown; cells stay empty where nothing was measured or printed.

    Columns that a paper prints are shown, and those that were measured of any; ``here`` where there is either.

    Raises:
        UserError: if scores of an experiment were measured that no row names.
    """
    if unknown := sorted(set(measured) - {row.experiment for row in rows}):
        raise UserError(f"the table has no row for {', '.join(unknown)}: add one, or collect under a name that it has")
    papers = [name for name in headings if any(name in row.paper for row in rows)]
    here = [name for name in headings if name in papers or any(name in each.scores for each in measured.values())]
    header = [*(f"paper: {headings[name]}" for name in papers), *(f"here: {headings[name]}" for name in here)]
    lines = [["experiment", "data", *header, "how, here"]]
    for row in rows:
        scores = measured[row.experiment].scores if row.experiment in measured else {}
        cells = [_text(scores[name]) if name in scores else "" for name in here]
        printed = (row.paper.get(name, "") for name in papers)
        lines.append([f"`{row.experiment}`", row.data, *printed, *cells, row.how])
    return markdown_table(lines)


def replace_table(text: str, table: str, name: str) -> str:
    """Put a table between its markers in a text.

    Args:
        text: Content of the file.
        table: Table from :func:`leaderboard_table`.
        name: Name of the file, for messages.

    Raises:
        UserError: if the markers are not there once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{name} needs one line {BEGIN} and, after it, one line {END}: the table goes between them")
    return text[: text.index(BEGIN)] + f"{BEGIN}\n{table}\n" + text[text.index(END) :]


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Format a header and rows as Markdown."""
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _row(path: Path, given: Mapping[str, Any], columns: Mapping[str, str]) -> LeaderboardRow:
    if unknown := sorted(set(given) - set(_KEYS)):
        raise UserError(f"{path}: unknown keys {unknown} of {given.get('experiment')}; there are {', '.join(_KEYS)}")
    if not {"experiment", "data"} <= set(given):
        raise UserError(f"{path}: a row needs experiment and data, this one has {dict(given)}")
    name = str(given["experiment"])
    shipped = {row.experiment: row.values for paper in paper_scores() for row in paper.rows}
    paper = given.get("paper", shipped.get(name, {}))
    printed = paper if isinstance(paper, Mapping) else {next(iter(columns)): paper}
    if unknown := sorted(set(printed) - set(columns)):
        raise UserError(f"{path}: `paper` of {name} has {unknown}, but columns are {', '.join(columns)}")
    texts = {str(key): str(value) for key, value in printed.items()}
    return LeaderboardRow(name, str(given.get("base", "")), str(given["data"]), texts, str(given.get("how", "")))


def _scores(run: CollectedRun) -> tuple[str, ScoreTable]:
    files = {verb: f"scores-{verb}.json" for verb in VERBS}
    verb = next((verb for verb, file in files.items() if verb in run.scores or file in run.damage), VERBS[0])
    table = run.scores.get(verb)
    if table is None:
        raise run.make_error(files[verb], _ADVICE)
    if not table.rows:
        raise UserError(f"{run.folder / files[verb]} has no complete mosaic: run `lightning {verb}` on whole mosaics")
    return verb, table


def _text(score: MeanSE) -> str:
    return f"{score.mean:.3f}" + ("" if score.se is None else f" ± {score.se:.3f}")
