"""The table as Markdown, and its place in a file."""

from collections.abc import Mapping

from data_modules.errors import UserError
from lightning_emseg.leaderboard.rows import Definition, Result, Score

BEGIN, END = "<!-- emseg leaderboard: begin -->", "<!-- emseg leaderboard: end -->"


def markdown(definition: Definition, results: Mapping[str, Result]) -> str:
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
