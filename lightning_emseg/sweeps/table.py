"""One table of the trials of several sweeps."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_emseg.sweeps.trials import Outcome

_SHOWN = "val/f1"
"""Mean over whole validation mosaics, which every verb that validates logs."""
_FIXED = ("sweep", "trial", "status", "seconds", "metric", "value")


def table_text(outcomes: Sequence[Outcome]) -> str:
    """A row a trial: values, validation F1, the score that its sweep looks at, seconds and whether it succeeded."""
    rows = [("sweep", "trial", "values", _SHOWN, "metric of the sweep", "s", "")]
    rows += [
        (
            each.sweep,
            str(each.trial),
            ", ".join(f"{name.rpartition('.')[2]} {_drawn_and_used(each, name)}" for name in each.parameters),
            _number(each.scores.get(_SHOWN)),
            "" if each.metric is None else f"{each.metric} {_number(each.scores.get(each.metric))}",
            f"{each.seconds:.0f}",
            f"failed ({each.status})" if each.status else "ok",
        )
        for each in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    """CSV with a row a trial: what ran, ``parameter:<name>`` of every sweep, and all ``val*`` scores."""
    parameters = sorted({name for each in outcomes for name in each.parameters})
    scores = sorted({name for each in outcomes for name in each.scores if name.startswith("val")})
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_FIXED, *(f"parameter:{name}" for name in parameters), *scores])
        for each in outcomes:
            value = None if each.metric is None else each.scores.get(each.metric)
            writer.writerow(
                [
                    *(each.sweep, each.trial, each.status, f"{each.seconds:.1f}", each.metric, value),
                    *(each.parameters.get(name) for name in parameters),
                    *(each.scores.get(name) for name in scores),
                ]
            )


def shown(value: Any) -> str:
    """A value in short: a class by its name.

    >>> shown('{"class_path": "lightning_emseg.losses.FocalLoss", "init_args": {"gamma": 2.0}}'), shown(0.00123456)
    ('FocalLoss', '0.00123')
    """
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, str) and value.startswith('{"class_path"'):
        return str(json.loads(value)["class_path"]).rpartition(".")[2]
    return str(value)


def _drawn_and_used(outcome: Outcome, name: str) -> str:
    drawn, used = shown(outcome.parameters[name]), shown(outcome.used[name])
    return drawn if drawn == used else f"{drawn} (here {used})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
