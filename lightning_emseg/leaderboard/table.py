"""The table as Markdown, and its place in a file."""

from collections.abc import Mapping, Sequence

from data_modules.errors import UserError
from lightning_emseg.leaderboard.rows import Result, Row, Score

BEGIN, END = "<!-- emseg leaderboard: begin -->", "<!-- emseg leaderboard: end -->"
_EXTRA = {"v_rand": "V-Rand", "v_info": "V-Info", "arand": "ARAND", "assd_nm": "ASSD in nm"}
"""Columns of whole-mosaic metrics that are shown where any result has them."""


def markdown(rows: Sequence[Row], results: Mapping[str, Result]) -> str:
    """One row an experiment; cells stay empty where nothing was measured or printed.

    Raises:
        UserError: if there is a result of an experiment that no row names.
    """
    unknown = sorted(set(results) - {row.experiment for row in rows})
    if unknown:
        raise UserError(f"no row of the table is of {', '.join(unknown)}: add one, or collect under a name that it has")
    extra = [name for name in _EXTRA if any(name in result.scores for result in results.values())]
    header = ["experiment", "data", "paper: F1", "here: membrane F1", "here: background F1"]
    lines = [[*header, *(f"here: {_EXTRA[name]}" for name in extra), "how, here"]]
    for row in rows:
        scores = results[row.experiment].scores if row.experiment in results else {}
        cells = [_text(scores.get(name)) for name in ("membrane_f1", "background_f1", *extra)]
        lines.append([f"`{row.experiment}`", row.data, row.paper, *cells, row.how])
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
