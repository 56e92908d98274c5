"""Results of run folders."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from lightning_emseg.leaderboard.rows import Result, Score
from lightning_emseg.metrics.table import summarise

_PACKAGES = ("lightning-emseg", "torch", "pytorch-lightning")


def collect(runs: Sequence[Path]) -> Result:
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
    summaries = {name: summarise([row.get(name, math.nan) for row in rows]) for name in rows[0]}
    scores = {name: Score(each.mean, each.se, each.n) for name, each in summaries.items() if each.n}
    thresholds = [math.nan if content["threshold"] is None else float(content["threshold"]) for _, content in found]
    environment = _read(runs[0] / f"environment-{verb}.json", runs[0])
    packages = environment.get("packages") or {}
    return Result(
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
    yield {name: summarise([row.get(name, math.nan) for row in rows]).mean for name in rows[0]}


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
