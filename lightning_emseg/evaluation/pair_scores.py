"""Scores of all pairs, one in memory at a time: first all are read and counted, then measured."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from data_modules.errors import UserError
from lightning_emseg.evaluation.competitions import (
    Competition,
    cremi_row,
    isbi2012_curves,
    isbi2012_scores,
    urisc_row,
)
from lightning_emseg.evaluation.evaluator import Evaluator, Panel
from lightning_emseg.evaluation.reading import PairReader
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.evaluation.sources import Pair, Pairing, ScoredImage
from lightning_emseg.metrics.boundary.distances import SURFACE_DISTANCES
from lightning_emseg.metrics.boundary.skeleton import SHORTEST_BREAK_NM, skeleton_recall
from lightning_emseg.metrics.boundary.tolerance import tolerant_f1
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from lightning_emseg.metrics.pixels import Counts, choose_level, count_pixels, level_of
from lightning_emseg.metrics.segmentation.scores import (
    ADAPTED_RAND,
    VARIATION_OF_INFORMATION,
    cell_score,
    v_info,
    v_rand,
)

PanelName = Literal["fast", "full"]
Threshold = tuple[int, str]
"""Lowest quantised probability that is foreground, 1–255, and how it was chosen."""
SWEEP = "sweep"
_RUN = "run:"
TOLERANCE_NM = 10.0
"""How far beside a true membrane a predicted one may lie: half of a membrane's width."""
FULL_PANEL: Panel = {
    "cells": (cell_score("v_rand", v_rand), cell_score("v_info", v_info), ADAPTED_RAND, VARIATION_OF_INFORMATION),
    "borders": (tolerant_f1([TOLERANCE_NM]), SURFACE_DISTANCES, skeleton_recall(TOLERANCE_NM, SHORTEST_BREAK_NM)),
}
"""How the field judges: cells that are separated, and borders that are where they should be."""


def score_pairs(
    pairing: Pairing,
    evaluator: Evaluator,
    reader: PairReader,
    label: str,
    threshold: str | None = None,
    panel: PanelName = "fast",
    official: Competition | None = None,
    pixel_size_nm: float | None = None,
) -> tuple[ScoreTable, list[str], dict[str, Any]]:
    """Score every pair: rows are those of ``lightning test``.

    Args:
        pairing: Pairs of one foreground, or of labels with the evaluator's classes.
        evaluator: Counts and scores.
        reader: Reader of the pairs, of the same classes.
        label: Name of the foreground in columns.
        threshold: A number, ``sweep``, ``run:PATH``, or ``None`` for what the predictions record, else 0.5.
        panel: ``fast`` has pixel scores only.
        official: Competition whose scores are added.
        pixel_size_nm: Side of a pixel of image files.

    Returns:
        Table, sentences for people, and what else the files keep, JSON-ready.

    Raises:
        UserError: if an image cannot be used, the threshold is none, a pixel size is needed and unknown, or two columns
            would have one name.
    """
    pairs, metrics = pairing.pairs, FULL_PANEL if panel == "full" else {}
    evaluator.check([metric for group in metrics.values() for metric in group])
    chosen = parse_threshold(threshold)
    needed_by = f"--panel {panel}" if metrics else "--official cremi" if official == "cremi" else ""
    sizes = [known_pixel_size_nm(pair, pixel_size_nm, needed_by) for pair in pairs]
    counts, binary, notes = _count_pairs(pairs, evaluator, reader)
    if evaluator.classes:
        chosen = (level_of(0.5), "classes as predicted")
    elif threshold == SWEEP:
        chosen = sweep_threshold(counts)
    level, criterion = chosen or find_default_threshold([pair.prediction for pair in pairs], binary)
    table = evaluator.table([pair.key for pair in pairs], counts, label, level, criterion)
    official_lines, official_record = list[str](), dict[str, Any]()
    if metrics or official is not None:
        official_lines, official_record = _measure_pairs(
            pairs, evaluator, reader, level, sizes, metrics, official, table
        )
    notes = [*pairing.notes, *notes]

    common = {
        "panel": panel,
        "pixel_size_nm": {pair.key: size for pair, size in zip(pairs, sizes, strict=True)},
        "unmatched": {"prediction": list(pairing.only_prediction), "truth": list(pairing.only_truth)},
    }
    if evaluator.classes:
        return table, notes, {"classes": list(evaluator.classes), **common}
    polarity = {"prediction": reader.prediction.polarity, "truth": reader.truth.polarity}
    said = [reader.prediction.said, reader.truth.said]
    return table, said + notes + official_lines, {"polarity": polarity, **common, "official": official_record}


def _count_pairs(pairs: Sequence[Pair], evaluator: Evaluator, reader: PairReader) -> tuple[Counts, bool, list[str]]:
    """Count the pixels of all pairs; also whether all predictions are binary, and sentences for people."""
    notes, counts, binary = list[str](), [], True
    for pair in tqdm(pairs, desc="read", unit="image", disable=None):
        loaded = reader.read(pair)
        counts.append(count_pixels(loaded.found, loaded.truth, len(evaluator.classes)))
        binary &= loaded.binary
        if not evaluator.classes and not counts[-1][1].any():
            notes.append(f"{pair.truth.what} has no foreground: scores that need some do not exist")
        if loaded.unpredicted:
            notes.append(f"{pair.prediction.what}: {loaded.unpredicted} px are marked as unknown and count nowhere")
    in_truth = np.sum(counts, axis=(0, 2))
    if absent := [name for name, pixels in zip(evaluator.classes, in_truth, strict=False) if not pixels]:
        notes.append(f"no truth has a pixel of {', '.join(absent)}: scores that need some do not exist")
    return np.stack(counts), binary, notes


def _measure_pairs(
    pairs: Sequence[Pair],
    evaluator: Evaluator,
    reader: PairReader,
    level: int,
    sizes: Sequence[tuple[float, ...] | None],
    metrics: Panel,
    official: Competition | None,
    table: ScoreTable,
) -> tuple[list[str], dict[str, Any]]:
    """Add the scores of whole mosaics to the table; returns the competition's sentences and record."""
    curves = {}
    for pair, size in zip(tqdm(pairs, desc="measure", unit="image", disable=None), sizes, strict=True):
        loaded, row = reader.read(pair), table.rows[pair.key]
        # Nothing is measured in nm where nobody knows it.
        nm = size or (1.0,) * loaded.truth.ndim
        row |= evaluator.measure(metrics, loaded.truth, loaded.found, level, nm)
        if official is None:
            continue
        compared = MosaicPair(loaded.truth, loaded.found, level, nm)
        if official == "urisc":
            row |= urisc_row(pair.key, loaded, compared)
        elif official == "cremi":
            row |= cremi_row(compared)
        else:
            curves[pair.key] = isbi2012_curves(compared)
    if not curves:
        return [], {}
    rows, lines, record = isbi2012_scores(curves)
    for key, columns in rows.items():
        table.rows[key].update(columns)
    return lines, record


def known_pixel_size_nm(pair: Pair, given: float | None, needed_by: str) -> tuple[float, ...] | None:
    """Find the size of a pixel.

    Args:
        pair: Prediction and truth.
        given: Side of a pixel that the user gave.
        needed_by: Option whose scores are in nm; empty if there is none.

    Returns:
        One value an axis; ``None`` where nobody knows and no score needs it.

    Raises:
        UserError: if a score needs it, or the two sides differ.
    """
    known = [size for size in (pair.truth.pixel_size_nm, pair.prediction.pixel_size_nm) if size is not None]
    if given is not None:
        known.append((given,) * len(pair.truth.shape))
    if not known and needed_by:
        raise UserError(
            f"{pair.truth.what} does not say how large its pixels are, and {needed_by} has scores in nm: pass "
            "--pixel-size-nm"
        )
    for other in known[1:]:
        if not np.allclose(known[0], other, rtol=1e-3):
            raise UserError(
                f"pixel sizes differ: {known[0]} nm in {pair.truth.what}, but {other} nm in {pair.prediction.what} or "
                "by --pixel-size-nm: they must show the same pixels"
            )
    return known[0] if known else None


def parse_threshold(given: str | None) -> Threshold | None:
    """Find the threshold of a number or of ``run:PATH``; ``None`` for ``sweep`` and ``None``, which need the images.

    Raises:
        UserError: if it is none of these, or the run has no threshold.
    """
    if given is None or given == SWEEP:
        return None
    if given.startswith(_RUN):
        return _run_threshold(Path(given.removeprefix(_RUN)))
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise UserError(f"--threshold {given}: give a number above 0 and up to 1, sweep, or run:RUN_FOLDER")
    return level_of(value), "given"


def sweep_threshold(counts: Counts) -> Threshold:
    """Find the threshold with the best mean F1 from counts ``int64 (mosaics, 2, 256)``."""
    return (
        choose_level(counts, "mean_f1"),
        "swept: best mean F1 on the scored images themselves, so no score of unseen images",
    )


def find_default_threshold(predictions: Sequence[ScoredImage], binary: bool) -> Threshold:
    """Find the threshold that the predictions record, else 0.5.

    Args:
        predictions: Predictions that are scored.
        binary: Whether all of them have two values only.

    Raises:
        UserError: if they record different ones.
    """
    if binary:
        return level_of(0.5), "the predictions are binary, so it does not matter"
    recorded = [source.threshold for source in predictions]
    if len({None if each is None else level_of(each[0]) for each in recorded}) > 1:
        raise UserError(
            f"{predictions[0].what} and others record different thresholds, or none: pass --threshold 0.5, sweep or "
            "run:RUN_FOLDER"
        )
    if recorded[0] is None:
        return level_of(0.5), "default"
    return level_of(recorded[0][0]), f"{recorded[0][1]}; recorded by the predictions"


def _run_threshold(path: Path) -> Threshold:
    places = [path / "scores-test.json", path / "checkpoints" / "best.ckpt"] if path.is_dir() else [path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(
            f"--threshold run:{path}: there is no {' and no '.join(map(str, places))}; give a run folder that was "
            "trained or tested, or such a file"
        )
    if found.suffix == ".json":
        try:
            scores = ScoreTable.read(found)
            threshold, criterion = scores.threshold, scores.criterion
            if math.isnan(threshold):
                raise ValueError("its threshold is null")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{found} is no score file of a run ({error!r}): test the run again, or pass a number"
            ) from error
    else:
        from lightning_emseg.core import checkpoints  # imports torch, which other thresholds do without

        checkpoint = checkpoints.read(found)
        if "threshold" not in checkpoint["state_dict"]:
            raise UserError(f"{found} holds no threshold, so it is of another program: pass --threshold as a number")
        threshold = float(checkpoint["state_dict"]["threshold"])
        criterion = str(checkpoint.get("emseg", {}).get("threshold_source", "unknown"))
    return level_of(threshold), f"{criterion}; from {found}"
