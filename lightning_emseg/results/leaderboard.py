"""Leaderboards: what the papers print beside what was measured here."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import UserError
from lightning_emseg.core.tables import mean_se

_KEYS = ("experiment", "data", "paper", "how")


@dataclass(frozen=True)
class ExperimentRow:
    """A shipped experiment.

    Attributes:
        experiment: Its file below ``experiments/``.
        data: What it is trained on.
        paper: By column of the score files, the score as a paper prints it.
        how: What was run here.
    """

    experiment: str
    data: str
    paper: Mapping[str, str]
    how: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """What a table has.

    Attributes:
        columns: Heading by column of the score files, in order.
        rows: One a shipped experiment.
    """

    columns: Mapping[str, str]
    rows: Sequence[ExperimentRow]


@dataclass(frozen=True)
class Score:
    """Mean over mosaics, or over several runs, its standard error (``None`` of a single one), and their number."""

    mean: float
    se: float | None
    n: int


@dataclass(frozen=True)
class MeasuredScores:
    """What was measured for an experiment.

    Attributes:
        scores: By column of the score files, e.g. ``membrane_f1``.
        threshold: Probability from which on a pixel counts as foreground.
        criterion: How the threshold was chosen.
        verb: ``test``, or ``validate`` where nothing was tested.
        versions: Of the packages that it was measured with.
        commit: Of the working copy; empty outside of one.
    """

    scores: Mapping[str, Score]
    threshold: float
    criterion: str
    versions: Mapping[str, str]
    commit: str
    verb: str = "test"


def read_leaderboard(path: Path) -> Leaderboard:
    """Read what a table has.

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
    return Leaderboard(headings, found)


def _row(path: Path, given: Mapping[str, Any], columns: Mapping[str, str]) -> ExperimentRow:
    if unknown := sorted(set(given) - set(_KEYS)):
        raise UserError(f"{path}: unknown keys {unknown} of {given.get('experiment')}; there are {', '.join(_KEYS)}")
    if not {"experiment", "data"} <= set(given):
        raise UserError(f"{path}: a row needs experiment and data, this one has {dict(given)}")
    paper = given.get("paper", {})
    printed = paper if isinstance(paper, dict) else {next(iter(columns)): paper}
    if unknown := sorted(set(printed) - set(columns)):
        raise UserError(f"{path}: `paper` of {given['experiment']} has {unknown}, but columns are {', '.join(columns)}")
    texts = {str(column): str(value) for column, value in printed.items()}
    return ExperimentRow(str(given["experiment"]), str(given["data"]), texts, str(given.get("how", "")))


def read_results(path: Path) -> dict[str, MeasuredScores]:
    """Read collected results by experiment; none where there is no file yet.

    Raises:
        UserError: if the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        return {
            name: MeasuredScores(**{**each, "scores": {key: Score(**score) for key, score in each["scores"].items()}})
            for name, each in content.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and collect the runs again") from None


def write_results(path: Path, results: Mapping[str, MeasuredScores], order: Sequence[str]) -> None:
    """Write results by experiment, in the order of the table."""
    content = {name: asdict(results[name]) for name in order if name in results}
    path.write_text(json.dumps(content, indent=1) + "\n")


_PACKAGES = ("lightning-emseg", "torch", "pytorch-lightning")


def collect(runs: Sequence[Path]) -> MeasuredScores:
    """Read what finished tests have left in run folders; validations where nothing was tested.

    Args:
        runs: One, whose scores are means over mosaics, or several of one experiment, as with other seeds: then the
            mean of each run counts once, and errors are over runs.

    Raises:
        UserError: if there are no scores of whole mosaics, or runs are neither all tested nor all validated.
    """
    found = [_scores(run) for run in runs]
    verbs = {verb for verb, _ in found}
    if len(verbs) > 1:
        raise UserError(f"of {', '.join(map(str, runs))} some were tested, others validated only: test all of them")
    (verb,) = verbs
    rows = [row for _, content in found for row in _means(content)] if len(runs) > 1 else list(_rows(found[0][1]))
    summaries = {name: mean_se([row.get(name, math.nan) for row in rows]) for name in rows[0]}
    scores = {name: Score(each.mean, each.se, each.n) for name, each in summaries.items() if each.n}
    thresholds = [math.nan if content["threshold"] is None else float(content["threshold"]) for _, content in found]
    environment = _read(runs[0] / f"environment-{verb}.json", runs[0])
    packages = environment.get("packages") or {}
    return MeasuredScores(
        scores,
        sum(thresholds) / len(thresholds),
        str(found[0][1]["criterion"]),
        {name: packages[name] for name in _PACKAGES if name in packages},
        str((environment.get("git") or {}).get("commit") or ""),
        verb,
    )


def _scores(run: Path) -> tuple[str, dict[str, Any]]:
    only_validated = not (run / "scores-test.json").is_file() and (run / "scores-validate.json").is_file()
    verb = "validate" if only_validated else "test"
    content = _read(run / f"scores-{verb}.json", run)
    if not content.get("mosaics"):
        raise UserError(
            f"{run / f'scores-{verb}.json'} has no complete mosaic: run `lightning {verb}` on whole mosaics"
        )
    return verb, content


def _rows(content: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    for row in content["mosaics"].values():
        yield {name: math.nan if value is None else float(value) for name, value in row.items()}


def _means(content: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    rows = list(_rows(content))
    yield {name: mean_se([row.get(name, math.nan) for row in rows]).mean for name in rows[0]}


def _read(path: Path, run: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{run} has no {path.name}: run `lightning test` with its config first") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run `lightning test` again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: run `lightning test` again")
    return content


BEGIN, END = "<!-- emseg leaderboard: begin -->", "<!-- emseg leaderboard: end -->"


def markdown(definition: Leaderboard, results: Mapping[str, MeasuredScores]) -> str:
    """One row an experiment; cells stay empty where nothing was measured or printed.

    Columns that a paper prints are shown, and those that any result has; ``here`` where there is a result of either.

    Raises:
        UserError: if there is a result of an experiment that no row names.
    """
    rows, columns = definition.rows, definition.columns
    unknown = sorted(set(results) - {row.experiment for row in rows})
    if unknown:
        raise UserError(f"no row of the table is of {', '.join(unknown)}: add one, or collect under a name that it has")
    printed = [name for name in columns if any(name in row.paper for row in rows)]
    measured = [name for name in columns if name in printed or any(name in each.scores for each in results.values())]
    header = [*(f"paper: {columns[name]}" for name in printed), *(f"here: {columns[name]}" for name in measured)]
    lines = [["experiment", "data", *header, "how, here"]]
    for row in rows:
        scores = results[row.experiment].scores if row.experiment in results else {}
        papers = (row.paper.get(name, "") for name in printed)
        cells = (_text(scores.get(name)) for name in measured)
        lines.append([f"`{row.experiment}`", row.data, *papers, *cells, row.how])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def replaced(text: str, table: str, name: str) -> str:
    """A text with the table between its markers.

    Args:
        text: Of the file.
        table: From :func:`markdown`.
        name: Of the file, for messages.

    Raises:
        UserError: if the markers are not there once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{name} needs one line {BEGIN} and, after it, one line {END}: the table goes between them")
    return text[: text.index(BEGIN)] + f"{BEGIN}\n{table}\n" + text[text.index(END) :]


def _text(score: Score | None) -> str:
    if score is None:
        return ""
    return f"{score.mean:.3f}" + ("" if score.se is None else f" ± {score.se:.3f}")
