"""Scoring all pairs by several classes, one pair in memory at a time: first all are read and counted, then measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.evaluation.compare import PANELS, Options, PairScores, Panel, known_pixel_size_nm, panel_row
from lightning_emseg.evaluation.evaluator import check_columns, measured_by_class
from lightning_emseg.evaluation.pairs import Pair, Pairing
from lightning_emseg.evaluation.reading import Grey
from lightning_emseg.evaluation.score_table import Row, ScoreTable
from lightning_emseg.evaluation.sources import Classes, Pixels, ScoredImage
from lightning_emseg.metrics.pixels import SCORES, Counts, class_confusion, class_scores

_BAND = 1024
"""Rows counted at a time: a confusion needs 16 bytes a pixel meanwhile."""
_UNKNOWN = 254
"""In tables of classes, of which there are fewer."""


@dataclass(frozen=True)
class LoadedClasses:
    """A pair in memory.

    Attributes:
        truth: ``uint8 (*S)``, positions of classes; 255 for what counts nowhere.
        predicted: ``uint8 (*S)``, positions of classes; anything where the truth is 255.
        unpredicted: Number of pixels that are ignored because the prediction marks them so.
    """

    truth: Grey
    predicted: Grey
    unpredicted: int

    def counts(self, classes: int) -> Counts:
        """Confusion ``int64 (classes, classes)``, a row for each true class."""
        total: Counts = np.zeros((classes, classes), np.int64)
        for start in range(0, len(self.truth), _BAND):
            rows = slice(start, start + _BAND)
            total += class_confusion(self.predicted[rows], self.truth[rows], classes)
        return total


def compare_classes(pairing: Pairing, names: Sequence[str], options: Options) -> PairScores:
    """Score every pair for every class: rows are those of ``lightning test`` with ``model.classes``.

    Args:
        pairing: Of labels of stores by the same names, or of label images: these have the values of the truth's label,
            or, against label images, the positions in ``names``.
        names: Of the classes, the background first.
        options: Of which the panel and the pixel size count.

    Raises:
        UserError: if an image cannot be used, a pixel size is needed and unknown, or two columns would have one name.
    """
    panel = PANELS[options.panel]()
    check_columns(names, _columns(panel))
    sizes = [known_pixel_size_nm(pair, options) for pair in pairing.pairs]
    counts, notes = _count(pairing.pairs, names)
    rows = {pair.key: class_scores(each, names) for pair, each in zip(pairing.pairs, counts, strict=True)}
    if panel:
        _measure(pairing.pairs, sizes, names, panel, rows)
    table = ScoreTable("mean", float("nan"), "classes as predicted", rows, {})
    record = {
        "classes": list(names),
        "panel": options.panel,
        "pixel_size_nm": {pair.key: size for pair, size in zip(pairing.pairs, sizes, strict=True)},
        "unmatched": {"prediction": list(pairing.only_prediction), "truth": list(pairing.only_truth)},
    }
    return PairScores(table, _headings(names, panel), [*pairing.notes, *notes], record)


def read_classes(pair: Pair, names: Sequence[str]) -> LoadedClasses:
    """Read both images of a pair.

    Raises:
        UserError: if one of them cannot be used; the message names it.
    """
    values = pair.truth.classes or tuple(enumerate(names))
    truth, predicted = _positions(pair.truth, values), _positions(pair.prediction, values)
    if (truth == IGNORE).all():
        raise UserError(
            f"{pair.truth.what} is ignored everywhere (255), so nothing can be scored: check how it was converted, or "
            "leave it out with --samples"
        )
    unpredicted = (predicted == IGNORE) & (truth != IGNORE)
    if unpredicted.any():
        truth = np.where(unpredicted, np.uint8(IGNORE), truth)
        if (truth == IGNORE).all():
            raise UserError(
                f"{pair.prediction.what} is ignored (255) wherever its truth is known: nothing can be scored"
            )
    return LoadedClasses(truth, predicted, int(np.count_nonzero(unpredicted)))


def _positions(source: ScoredImage, values: Classes) -> Grey:
    pixels = source.read()
    # A store's label declares its values, and is read as positions.
    return pixels if source.classes else _of_values(pixels, values, source.what)


def _of_values(pixels: Pixels, values: Classes, what: str) -> Grey:
    if pixels.dtype.kind not in "biu":
        raise UserError(
            f"{what} holds {pixels.dtype} values, but classes are whole numbers: save the number of each pixel's class "
            "in 8 bits; probabilities of one foreground are scored without --classes"
        )
    table = np.full(256, _UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[[value for value, _ in values]] = np.arange(len(values), dtype=np.uint8)
    outside = (pixels < 0) | (pixels > IGNORE)
    found: Grey = np.where(outside, np.uint8(_UNKNOWN), table[pixels.astype(np.uint8)])
    if (found == _UNKNOWN).any():
        unknown = np.unique(pixels[found == _UNKNOWN])[:6].tolist()
        raise UserError(
            f"{what} has the values {unknown}, but the classes are {dict(values)} (255 is ignored): save the number of "
            "each pixel's class, or name all classes in the order of their numbers with --classes"
        )
    return found


def _count(pairs: Sequence[Pair], names: Sequence[str]) -> tuple[list[Counts], list[str]]:
    """Confusions of all pairs, and what the user should hear about them."""
    counts, notes = [], []
    for pair in tqdm(pairs, desc="read", unit="image", disable=None):
        loaded = read_classes(pair, names)
        counts.append(loaded.counts(len(names)))
        if loaded.unpredicted:
            notes.append(f"{pair.prediction.what}: {loaded.unpredicted} px are marked as unknown and count nowhere")
    in_truth = np.sum(counts, axis=(0, 2))
    if absent := [name for name, pixels in zip(names, in_truth, strict=True) if not pixels]:
        notes.append(f"no truth has a pixel of {', '.join(absent)}: scores that need some do not exist")
    return counts, notes


def _measure(
    pairs: Sequence[Pair],
    sizes: Sequence[tuple[float, ...] | None],
    names: Sequence[str],
    panel: Panel,
    rows: Mapping[str, Row],
) -> None:
    """Add what needs whole images to the rows."""
    for pair, size in zip(tqdm(pairs, desc="measure", unit="image", disable=None), sizes, strict=True):
        loaded = read_classes(pair, names)
        assert size is not None
        measure = partial(panel_row, panel)
        rows[pair.key].update(measured_by_class(loaded.truth, loaded.predicted, names, size, measure))


def _columns(panel: Panel) -> list[str]:
    return [column for metrics in panel.values() for metric in metrics for column in metric.columns]


def _headings(names: Sequence[str], panel: Panel) -> dict[str, Sequence[str]]:
    headings: dict[str, Sequence[str]] = {}
    for of in ("mean", *names[1:]):
        headings[of] = [f"{of}_{score}" for score in SCORES] + (["background_f1"] if of == "mean" else [])
        for heading, metrics in panel.items():
            headings[f"{of}: {heading}"] = [f"{of}_{column}" for metric in metrics for column in metric.columns]
    return headings
