"""Results of run folders."""

import json
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from lightning_emseg.leaderboard.rows import Result, Score
from lightning_emseg.metrics.table import summarise

_PACKAGES = ("lightning-emseg", "torch", "pytorch-lightning")


def collect(run: Path) -> Result:
    """Read what a finished test has left in a run folder.

    Raises:
        UserError: if there is no test, or it has scored nothing.
    """
    scores, environment = (_read(run / name, run) for name in ("scores-test.json", "environment-test.json"))
    mosaics = scores.get("mosaics") or {}
    if not mosaics:
        raise UserError(f"{run / 'scores-test.json'} has no complete mosaic: run `lightning test` on whole mosaics")
    columns = next(iter(mosaics.values()))
    found = {}
    for name in columns:
        values = [float("nan") if row[name] is None else row[name] for row in mosaics.values()]
        summary = summarise(values)
        if summary.n:
            found[name] = Score(summary.mean, summary.se, summary.n)
    packages = environment.get("packages") or {}
    return Result(
        found,
        float("nan" if scores["threshold"] is None else scores["threshold"]),
        str(scores["criterion"]),
        {name: packages[name] for name in _PACKAGES if name in packages},
        str((environment.get("git") or {}).get("commit") or ""),
    )


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
