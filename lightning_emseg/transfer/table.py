"""A table of transfer benchmarks with the paper's numbers beside those measured, as Markdown, CSV and JSON."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_emseg.transfer.collect import Cell, Collection, Row
from lightning_emseg.transfer.definition import Initialisation, PaperRow, PaperTable

SCORE = (
    "IoU at a probability of 0.5, not at a threshold chosen on validation data; of several classes, their mean. "
    "Mean ± SE over seeds (ddof 1), n runs."
)
_COLUMNS = (
    *("benchmark", "encoder", "iterations", "initialisation", "mean", "se", "n", "seeds"),
    *("paper", "paper_iterations", "published"),
)


@dataclass(frozen=True)
class FilledTable:
    """A table of the paper and what was collected for it."""

    paper: PaperTable
    collection: Collection

    @property
    def columns(self) -> tuple[Initialisation, ...]:
        """The paper's initialisations, and behind them those that only runs have."""
        return (*self.paper.columns, *self.collection.more)

    def rows(self) -> Iterator[tuple[str, PaperRow | None, list[Row]]]:
        """By benchmark: its name, the paper's row, and the measured ones; last those that the paper has no row of."""
        printed = {row.benchmark: row for row in self.paper.rows}
        others = [name for name in self.paper.benchmarks if name not in printed]
        for name in (*printed, *others):
            measured = sorted(row for row in self.collection.cells if row.benchmark == name)
            if measured or name in printed:
                yield name, printed.get(name), measured

    def cell(self, row: Row, column: Initialisation) -> Cell | None:
        """Runs of a row and an initialisation, if there are any."""
        return self.collection.cells[row].get(column.name)

    def missing(self) -> list[str]:
        """What the paper has and no run, or fewer runs than the paper, have."""
        found = []
        for name, printed, measured in self.rows():
            title = self.paper.benchmarks[name].title
            if printed and not measured:
                found.append(f"{title}: no runs")
            for row in measured:
                for column in self.paper.columns:
                    found += self._few(
                        f"{title}, {row.iterations:,} iterations, {column.title}", self.cell(row, column)
                    )
        return found

    def _few(self, what: str, cell: Cell | None) -> list[str]:
        if cell is None:
            return [f"{what}: no runs"]
        if len(cell.scores) < self.paper.runs:
            seeds = ", ".join(map(str, cell.scores))
            return [f"{what}: {len(cell.scores)} of {self.paper.runs} runs (seeds {seeds})"]
        return []


def markdown(table: FilledTable) -> str:
    """The table: for each benchmark the paper's row, and below it a row for every number of iterations that was run."""
    lines = [["benchmark", "", "iterations", *(column.title for column in table.columns), "reported"]]
    lines.append(["---"] * len(lines[0]))
    for name, printed, measured in table.rows():
        title = table.paper.benchmarks[name].title
        if printed is not None:
            values = [_paper_text(printed.paper.get(column.name)) for column in table.columns]
            lines.append([title, "paper", f"{printed.iterations:,}", *values, _paper_text(printed.published)])
        for row in measured:
            cells = [_cell_text(table.cell(row, column)) for column in table.columns]
            lines.append(["" if printed else title, f"here, {row.encoder}", f"{row.iterations:,}", *cells, ""])
        if not measured:
            lines.append(["", "here", "", *["missing"] * len(table.columns), ""])
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table.paper.title}\n\n{SCORE}\n\n{body}"


def _paper_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell_text(cell: Cell | None) -> str:
    return "missing" if cell is None else f"{cell.summary} (n {cell.summary.n})"


def write_csv(path: Path, table: FilledTable) -> None:
    """A line for each cell, the paper's that were not run included, in full precision."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for record in _records(table):
            writer.writerow({**record, "seeds": " ".join(map(str, record["seeds"]))})


def write_json(path: Path, table: FilledTable) -> None:
    """Everything: cells, the runs that they are of, what is missing, and the notes."""
    runs = [
        {"folder": str(folder), "seed": seed, "iou": cell.scores[seed], **_where(row), "initialisation": name}
        for row, cells in sorted(table.collection.cells.items())
        for name, cell in cells.items()
        for seed, folder in cell.folders.items()
    ]
    content = {
        **{"table": table.paper.title, "score": SCORE, "cells": list(_records(table)), "runs": runs},
        **{"missing": table.missing(), "notes": list(table.collection.notes)},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _where(row: Row) -> dict[str, Any]:
    return {"benchmark": row.benchmark, "encoder": row.encoder, "iterations": row.iterations}


def _records(table: FilledTable) -> Iterator[dict[str, Any]]:
    for name, printed, measured in table.rows():
        nowhere: dict[str, Any] = {"benchmark": name, "encoder": None, "iterations": None}
        for column in table.columns:
            cells = [(_where(row), table.cell(row, column)) for row in measured] or [(nowhere, None)]
            for where, cell in cells:
                yield {**where, "initialisation": column.name, **_numbers(cell), **_printed(printed, column)}


def _numbers(cell: Cell | None) -> dict[str, Any]:
    if cell is None:
        return {"mean": None, "se": None, "n": 0, "seeds": []}
    return {"mean": cell.summary.mean, "se": cell.summary.se, "n": cell.summary.n, "seeds": list(cell.scores)}


def _printed(row: PaperRow | None, column: Initialisation) -> dict[str, Any]:
    if row is None:
        return {"paper": None, "paper_iterations": None, "published": None}
    paper = row.paper.get(column.name)
    return {"paper": paper, "paper_iterations": row.iterations, "published": row.published}
