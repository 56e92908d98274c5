"""Command ``emseg curate filter``: informative tiles of a set."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.errors import UserError, shorten
from data_modules.labelled_tiles import HELD_OUT, LabelSplit, split_labels
from data_modules.tile_set import SourceTiles, TileSet, read_kept
from data_modules.tiles import mirrored
from lightning_emseg.core.checkpoints import file_hash
from lightning_emseg.curation.filtering import LITTLE, FilterRule, Judge, filter_tiles, fit_forest
from lightning_emseg.curation.statistics import NAMES, VERSION, WINDOW_PX, Measure, TileValues, Values, statistics
from lightning_emseg.curation.statistics import uniform_share as uniform_share_of
from lightning_emseg.modules.tile_classifier import TileClassifier

Tile = NDArray[np.uint8]


def filter_set(
    tiles: Path,
    checkpoint: Path | None = None,
    forest: Path | None = None,
    threshold: float = 0.5,
    uniform_std: float = 2.0,
    uniform_share: float = 0.8,
    held_out: float = HELD_OUT,
    seed: int = 0,
    workers: int | None = None,
) -> str:
    """Decide which of the tiles that `emseg curate dedup` kept are informative; nothing is deleted.

    The decision about every tile, with its probability, goes to ``filter.csv`` in the set. What was computed of tiles
    is kept, so that a run that was interrupted or is repeated with another threshold does not compute it again. Sources
    of which nothing or less than a tenth is left are named, and all of them listed in ``filter.json``: a judge that
    learned from few labels may take a whole tissue or microscope for uninformative.

    Args:
        tiles: Tile set.
        checkpoint: Checkpoint of a classifier, trained by `lightning fit --config experiments/cem500k/filter.yaml`.
        forest: Labels (of `emseg curate label`) for a random forest on four statistics, in place of a checkpoint.
        threshold: Least probability of an informative tile.
        uniform_std: A pixel is uniform where the 15 × 15 px about it deviate by less, in grey levels; 0 for no rule.
        uniform_share: Tiles with this share of uniform pixels or more are uninformative, whatever the probability.
        held_out: Share of the labels that the forest is scored on, and not trained with.
        seed: Random seed of the forest and of what is held out; equal to a classifier's, both are scored on the same
            labels.
        workers: Processes; as many as processors by default. Classifiers run on the GPU where there is one.

    Raises:
        UserError: if there is no tile set, a tile is damaged, or an argument is out of range.
    """
    rule = FilterRule(threshold, uniform_std, uniform_share)
    if (checkpoint is None) == (forest is None) or (workers is not None and workers < 1):
        raise UserError(
            f"--checkpoint {checkpoint} --forest {forest} --workers {workers}: give a checkpoint, or labels for a "
            "forest, and at least one worker"
        )
    folder = TileSet(tiles)
    sources = folder.sources()
    processes = workers or len(os.sched_getaffinity(0))
    total = sum(int(kept.sum()) for kept in read_kept(sources, folder.tables("dedup")))
    with (
        _mapping(processes) as apply,
        tqdm(total=total, desc="forest" if checkpoint is None else "classifier", unit="tile", disable=None) as first,
        tqdm(total=total, desc="uniform area", unit="tile", disable=None) as second,
    ):
        if checkpoint is not None:
            judge, about = _load_network(folder, checkpoint, first.update)
        else:
            assert forest is not None
            split = split_labels(forest, sources, held_out, seed)
            judge, about = _fit_forest(folder, sources, split, seed, processes, apply, first.update)
        measure = _measure(apply, partial(uniform_share_of, std=uniform_std))
        alike = TileValues(folder, "uniform", f"{WINDOW_PX} px, below {uniform_std!r}", 1, measure)
        found = filter_tiles(folder, judge, _judge(alike, second.update), rule, about)
    scored = "AUROC unknown" if about["auroc"] is None else f"AUROC {about['auroc']:.3f}"
    judge_and_score = f"{about['judge']} ({scored} on {about['scored_on']:,} held-out labels)"
    lost = "".join(
        f"\n{share} is left of {len(names):,} of {len(sources):,} sources, look at them before you train: "
        f"{shorten(names)}"
        for share, names in (("nothing", found["nothing_left"]), (f"less than {LITTLE:.0%}", found["little_left"]))
        if names
    )
    return (
        f"{found['kept']:,} of {found['tiles']:,} tiles kept; {found['duplicates']:,} are duplicates, "
        f"{found['uniform']:,} uniform, {found['uninformative']:,} uninformative by the {judge_and_score}: "
        f"{folder.path / 'filter.csv'}{lost}"
    )


Apply = Callable[[Callable[[Tile], Any], Sequence[Tile]], list[Any]]
Progress = Callable[[int], object]


@contextmanager
def _mapping(processes: int) -> Iterator[Apply]:
    """A function over tiles, in several processes."""
    if processes == 1:
        yield lambda function, tiles: [function(tile) for tile in tiles]
        return
    # Tensorstore's threads do not survive a fork.
    with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:
        yield lambda function, tiles: list(pool.map(function, tiles, chunksize=16))


def _judge(
    values: TileValues, progress: Progress, take: Callable[[Values], NDArray[np.float32]] = lambda values: values[:, 0]
) -> Judge:
    return lambda source, wanted: take(values.of(source, wanted, progress))


def _measure(apply: Apply, function: Callable[[Tile], Any]) -> Measure:
    return lambda tiles: np.array(apply(function, tiles), np.float32).reshape(len(tiles), -1)


def _load_network(folder: TileSet, checkpoint: Path, progress: Progress) -> tuple[Judge, dict[str, Any]]:
    module = TileClassifier.from_checkpoint(checkpoint)
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    digest = file_hash(checkpoint)
    about = {"judge": "classifier", "checkpoint": digest, "auroc": module.auroc, "scored_on": module.scored_on}

    def measure(tiles: Sequence[Tile]) -> Values:
        return module.scores(np.stack([mirrored(tile) for tile in tiles]))[:, None]

    return _judge(TileValues(folder, "probabilities", digest, 1, measure), progress), about


def _fit_forest(
    folder: TileSet,
    sources: list[SourceTiles],
    split: LabelSplit,
    seed: int,
    workers: int,
    apply: Apply,
    progress: Progress,
) -> tuple[Judge, dict[str, Any]]:
    values = TileValues(folder, "statistics", VERSION, len(NAMES), _measure(apply, statistics))
    labelled = [labels >= 0 for labels in split.labels]
    with tqdm(total=sum(int(each.sum()) for each in labelled), desc="labels", unit="tile", disable=None) as bar:
        known = [values.of(source, wanted, bar.update) for source, wanted in zip(sources, labelled, strict=True)]
    train, held_out = (
        (
            np.stack([known[source][tile] for source, tile in part.tolist()]),
            np.array([split.labels[source][tile] for source, tile in part.tolist()], np.int64),
        )
        for part in (split.train, split.held_out)
    )
    fitted = fit_forest(train, held_out, seed, workers)
    about = {
        "judge": "forest",
        "auroc": fitted.auroc,
        "scored_on": len(split.held_out),
        "trained_on": len(split.train),
        "seed": seed,
        "importances": fitted.importances,
    }
    return _judge(values, progress, fitted.probability), about
