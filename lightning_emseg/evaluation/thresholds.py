"""The threshold of a comparison: given, swept, of a run, or as the predictions record it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.errors import UserError
from lightning_emseg.evaluation.sources import ScoredImage
from lightning_emseg.metrics.pixels import Counts, choose_level, level_of

SWEEP = "sweep"
_RUN = "run:"


@dataclass(frozen=True)
class Choice:
    """A threshold.

    Attributes:
        level: Lowest quantised probability that is foreground, 1–255.
        criterion: How it was chosen.
    """

    level: int
    criterion: str


def given_threshold(given: str | None) -> Choice | None:
    """The threshold of a number or of ``run:PATH``; ``None`` for ``sweep`` and ``None``, which need the images.

    Raises:
        UserError: if it is none of these, or the run has no threshold.
    """
    if given is None or given == SWEEP:
        return None
    return _read(Path(given.removeprefix(_RUN))) if given.startswith(_RUN) else _number(given)


def swept_threshold(counts: Counts) -> Choice:
    """The threshold with the best mean F1.

    Args:
        counts: ``int64 (mosaics, 2, 256)``.
    """
    criterion = "swept: best mean F1 on the scored images themselves, so no score of unseen images"
    return Choice(choose_level(counts, "mean_f1"), criterion)


def default_threshold(predictions: Sequence[ScoredImage], binary: bool) -> Choice:
    """What the predictions record, else 0.5.

    Args:
        predictions: That are scored.
        binary: Whether all of them have two values only.

    Raises:
        UserError: if they record different ones.
    """
    if binary:
        return Choice(level_of(0.5), "the predictions are binary, so it does not matter")
    return _recorded(predictions)


def _number(given: str) -> Choice:
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise UserError(f"--threshold {given}: give a number above 0 and up to 1, sweep, or run:RUN_FOLDER")
    return Choice(level_of(value), "given")


def _recorded(predictions: Sequence[ScoredImage]) -> Choice:
    recorded = [source.threshold for source in predictions]
    levels = {None if each is None else level_of(each[0]) for each in recorded}
    if len(levels) > 1:
        raise UserError(
            f"{predictions[0].what} and others record different thresholds, or none: pass --threshold 0.5, sweep or "
            "run:RUN_FOLDER"
        )
    if recorded[0] is None:
        return Choice(level_of(0.5), "default")
    return Choice(level_of(recorded[0][0]), f"{recorded[0][1]}; recorded by the predictions")


def _read(path: Path) -> Choice:
    places = [path / "scores-test.json", path / "checkpoints" / "best.ckpt"] if path.is_dir() else [path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(
            f"--threshold run:{path}: there is no {' and no '.join(map(str, places))}; give a run folder that was "
            "trained or tested, or such a file"
        )
    threshold, criterion = _of_scores(found) if found.suffix == ".json" else _of_checkpoint(found)
    return Choice(level_of(threshold), f"{criterion}; from {found}")


def _of_scores(path: Path) -> tuple[float, str]:
    try:
        scores = json.loads(path.read_text())
        return float(scores["threshold"]), str(scores["criterion"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no score file of a run ({error!r}): test the run again, or pass a number"
        ) from error


def _of_checkpoint(path: Path) -> tuple[float, str]:
    from lightning_emseg.core import checkpoints  # imports torch, which other thresholds do without

    checkpoint = checkpoints.read(path)
    if "threshold" not in checkpoint["state_dict"]:
        raise UserError(f"{path} holds no threshold, so it is of another program: pass --threshold as a number")
    source = checkpoint.get("emseg", {}).get("threshold_source", "unknown")
    return float(checkpoint["state_dict"]["threshold"]), str(source)
