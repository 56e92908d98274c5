"""``emseg baselines``: what a network has to beat."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_modules.store import MosaicStore, MosaicView, shard_rows
from lightning_emseg.evaluation.evaluator import Evaluator
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.metrics.pixels import Counts, choose_level, count_pixels, mean_curves


def baselines(store: str, split: str = "test", fit: str = "train", label: str = "membrane") -> str:
    """Score two trivial predictions on whole mosaics: all background, and the best global grey threshold.

    Args:
        store: Path or URL of the store.
        split: Split to score.
        fit: Split on which threshold and polarity are chosen.
        label: Name of the label.

    Raises:
        UserError: if the store, a split or a label does not exist.
    """
    return "\n\n".join(f"{name}\n{table.text()}" for name, table in baseline_tables(store, split, fit, label).items())


def baseline_tables(store: str | Path, split: str, fit: str, label: str) -> dict[str, ScoreTable]:
    """Tables of :func:`baselines` by name."""
    opened = MosaicStore(store)
    views = {part: [MosaicView.of(sample, label) for sample in opened.samples(part)] for part in (fit, split)}
    dark = {part: np.stack([grey_histogram(mosaic) for mosaic in mosaics]) for part, mosaics in views.items()}
    keys = [mosaic.key for mosaic in views[split]]
    evaluator, choices = Evaluator(), []
    for polarity, step in (("dark", 1), ("bright", -1)):
        level = choose_level(dark[fit][..., ::step], "mean_f1")
        choices.append((mean_curves(dark[fit][..., ::step])["mean_f1"][level], level, polarity, step))
    _, level, polarity, step = max(choices)
    counts = dark[split][..., ::step]
    # Everything at level 0, and a threshold of 1, so that nothing is foreground.
    nothing = np.zeros_like(counts)
    nothing[..., 0] = counts.sum(axis=-1)
    grey = 255 - level if polarity == "dark" else level
    return {
        "all background": evaluator.table(keys, nothing, label, 1, "nothing is foreground"),
        f"best global threshold ({polarity}, grey {grey})": evaluator.table(
            keys, counts, label, level, f"mean_f1 on {fit}"
        ),
    }


def grey_histogram(mosaic: MosaicView) -> Counts:
    """Histogram ``int64 (2, 256)`` of the inverted grey values by truth, so that dark pixels count as foreground."""
    counts = np.zeros((2, 256), np.int64)
    step = shard_rows(mosaic.shape)
    rest = mosaic.shape[1:]
    for start in tqdm(range(0, mosaic.shape[0], step), desc=mosaic.key, leave=False, disable=None):
        size = (min(step, mosaic.shape[0] - start), *rest)
        origin = (start, *(0,) * len(rest))
        counts += count_pixels(255 - mosaic.read_image(origin, size), mosaic.read_mask(origin, size))
    return counts
