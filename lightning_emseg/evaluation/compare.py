"""Scores of all pairs for one foreground, one pair in memory at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from data_modules.errors import UserError
from lightning_emseg.evaluation.competitions import IN_NM, OFFICIALS, OfficialName, OfficialScores
from lightning_emseg.evaluation.pairs import Pair, Pairing
from lightning_emseg.evaluation.reading import GivenPolarity, PairReader, SidePolarity
from lightning_emseg.evaluation.score_table import Row, ScoreTable, score_rows
from lightning_emseg.evaluation.thresholds import SWEEP, default_threshold, given_threshold, swept_threshold
from lightning_emseg.metrics.boundary.distances import SURFACE_DISTANCES
from lightning_emseg.metrics.boundary.skeleton import SHORTEST_BREAK_NM, skeleton_recall
from lightning_emseg.metrics.boundary.tolerance import tolerant_f1
from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from lightning_emseg.metrics.pixels import SCORES, Counts, mean_curves
from lightning_emseg.metrics.segmentation.scores import (
    ADAPTED_RAND,
    VARIATION_OF_INFORMATION,
    cell_score,
    v_info,
    v_rand,
)

PanelName = Literal["fast", "full"]
Panel = Mapping[str, Sequence[MosaicScore]]
"""Scores by the heading that their columns stand under."""

TOLERANCE_NM = 10.0
"""How far beside a true membrane a predicted one may lie: half of a membrane's width."""


def fast() -> Panel:
    """Nothing beside the pixel scores."""
    return {}


def full() -> Panel:
    """How the field judges: cells that are separated, and borders that are where they should be."""
    return {
        "cells": (cell_score("v_rand", v_rand), cell_score("v_info", v_info), ADAPTED_RAND, VARIATION_OF_INFORMATION),
        "borders": (tolerant_f1([TOLERANCE_NM]), SURFACE_DISTANCES, skeleton_recall(TOLERANCE_NM, SHORTEST_BREAK_NM)),
    }


PANELS: Mapping[PanelName, Callable[[], Panel]] = {"fast": fast, "full": full}


def panel_row(panel: Panel, compared: Callable[[], MosaicPair]) -> Row:
    """All numbers of one mosaic by column; NaN for metrics that volumes do not have.

    Args:
        panel: What to measure.
        compared: Makes a new comparison, one a heading: metrics under different ones share little, and what the first
            have kept would take a third of the memory.
    """
    row: Row = {}
    for scores in panel.values():
        comparison = compared()
        for score in scores:
            missing = comparison.labels.ndim > 2 and score.planes_only
            row |= dict.fromkeys(score.columns, np.nan) if missing else score.named(comparison)
        del comparison  # before the next one is filled
    return row


@dataclass(frozen=True)
class Options:
    """What is scored, and how.

    Attributes:
        label: Name of the foreground in columns.
        threshold: A number, ``sweep``, ``run:PATH``, or ``None`` for what the predictions record, else 0.5.
        panel: ``fast`` has pixel scores only.
        official: Competition whose scores are added.
        pixel_size_nm: Of image files.
        prediction_polarity: Whether predicted membranes are bright or dark.
        truth_polarity: Whether true membranes are bright or dark.
    """

    label: str = "membrane"
    threshold: str | None = None
    panel: PanelName = "fast"
    official: OfficialName | None = None
    pixel_size_nm: float | None = None
    prediction_polarity: GivenPolarity = "auto"
    truth_polarity: GivenPolarity = "auto"


@dataclass(frozen=True)
class PairScores:
    """Scores of all pairs.

    Attributes:
        table: A row an image.
        headings: Columns that people see, by heading.
        notes: What people should hear about, one sentence each.
        record: What else the files keep, JSON-ready.
    """

    table: ScoreTable
    headings: Mapping[str, Sequence[str]]
    notes: Sequence[str]
    record: Mapping[str, Any]

    def to_json(self) -> dict[str, object]:
        """The form of a run's score files, and beside it how images were understood."""
        return self.table.to_json() | {"notes": list(self.notes)} | dict(self.record)


def compare(pairing: Pairing, options: Options) -> PairScores:
    """Score every pair.

    Raises:
        UserError: if an image cannot be used, the threshold is none, or a pixel size is needed and unknown.
    """
    pairs, threshold = pairing.pairs, given_threshold(options.threshold)
    sizes = [known_pixel_size_nm(pair, options) for pair in pairs]
    sides = [
        SidePolarity("prediction", options.prediction_polarity),
        SidePolarity("truth", options.truth_polarity),
    ]
    reader, notes = PairReader(*sides), list(pairing.notes)
    counts, binary = _count(pairs, reader, notes)
    if threshold is None:
        predictions = [pair.prediction for pair in pairs]
        threshold = swept_threshold(counts) if options.threshold == SWEEP else default_threshold(predictions, binary)
    rows = score_rows([pair.key for pair in pairs], counts, options.label, threshold.level)
    official, columns = _measure(pairs, sizes, reader, options, threshold.level, rows)
    table = ScoreTable(options.label, threshold.level / 255, threshold.criterion, rows, mean_curves(counts))
    record = {
        "polarity": {"prediction": sides[0].polarity, "truth": sides[1].polarity},
        "panel": options.panel,
        "pixel_size_nm": {pair.key: size for pair, size in zip(pairs, sizes, strict=True)},
        "unmatched": {"prediction": list(pairing.only_prediction), "truth": list(pairing.only_truth)},
        "official": dict(official.record),
    }
    said = [side.said for side in sides]
    return PairScores(table, _headings(options.label, columns, official), said + notes + official.lines, record)


def known_pixel_size_nm(pair: Pair, options: Options) -> tuple[float, ...] | None:
    """Size of a pixel, one value an axis; ``None`` where nobody knows and no score needs it.

    Raises:
        UserError: if one needs it, or the two sides differ.
    """
    known = [size for size in (pair.truth.pixel_size_nm, pair.prediction.pixel_size_nm) if size is not None]
    if options.pixel_size_nm is not None:
        known.append((options.pixel_size_nm,) * len(pair.truth.shape))
    in_nm = {
        f"--panel {options.panel}": bool(PANELS[options.panel]()),
        f"--official {options.official}": options.official in IN_NM,
    }
    if not known and any(in_nm.values()):
        which = next(option for option, needed in in_nm.items() if needed)
        raise UserError(
            f"{pair.truth.what} does not say how large its pixels are, and {which} has scores in nm: pass "
            "--pixel-size-nm"
        )
    for other in known[1:]:
        if not np.allclose(known[0], other, rtol=1e-3):
            raise UserError(
                f"pixel sizes differ: {known[0]} nm in {pair.truth.what}, but {other} nm in {pair.prediction.what} or "
                "by --pixel-size-nm: they must show the same pixels"
            )
    return known[0] if known else None


def _count(pairs: Sequence[Pair], reader: PairReader, notes: list[str]) -> tuple[Counts, bool]:
    """Histograms ``int64 (pairs, 2, 256)``, and whether all predictions are binary; adds to the notes."""
    counts, binary = [], True
    for pair in tqdm(pairs, desc="read", unit="image", disable=None):
        loaded = reader.read(pair)
        counts.append(loaded.counts())
        binary &= loaded.binary
        if not counts[-1][1].any():
            notes.append(f"{pair.truth.what} has no foreground: scores that need some do not exist")
        if loaded.unpredicted:
            notes.append(f"{pair.prediction.what}: {loaded.unpredicted} px are marked as unknown and count nowhere")
    return np.stack(counts), binary


def _measure(
    pairs: Sequence[Pair],
    sizes: Sequence[tuple[float, ...] | None],
    reader: PairReader,
    options: Options,
    level: int,
    rows: Mapping[str, Row],
) -> tuple[OfficialScores, dict[str, list[str]]]:
    """Add what needs whole images to the rows; returns the official scores and the panel's columns by heading."""
    panel = PANELS[options.panel]()
    official = None if options.official is None else OFFICIALS[options.official]()
    if not panel and official is None:
        return OfficialScores({}), {}
    for pair, size in zip(tqdm(pairs, desc="measure", unit="image", disable=None), sizes, strict=True):
        loaded = reader.read(pair)
        # Nothing is measured in nm where nobody knows it.
        nm = size or (1.0,) * loaded.truth.ndim
        compared = partial(MosaicPair, loaded.truth, loaded.probability, level, nm)
        rows[pair.key].update(panel_row(panel, compared))
        if official is not None:
            official.add(pair.key, loaded, compared())
    found = OfficialScores({}) if official is None else official.scores()
    for key, row in found.rows.items():
        rows[key].update(row)
    return found, {name: [column for each in metrics for column in each.columns] for name, metrics in panel.items()}


def _headings(label: str, columns: Mapping[str, Sequence[str]], official: OfficialScores) -> dict[str, Sequence[str]]:
    pixels = [f"{label}_{score}" for score in (*SCORES, "average_precision")] + ["background_f1"]
    added = list(next(iter(official.rows.values()), {}))
    return {"pixels": pixels, **columns, **({"official": added} if added else {})}
