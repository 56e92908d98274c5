"""Informative tiles of those that deduplication kept, and the random forest that a network has to beat."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torchmetrics.functional.classification import binary_auroc

from data_modules.errors import UserError
from data_modules.tile_set import SourceTiles, TileSet, read_kept, write_decisions
from lightning_emseg.curation.statistics import NAMES, Values


@dataclass(frozen=True)
class Forest:
    """A fitted forest.

    Attributes:
        model: Classifier of scikit-learn.
        auroc: Area under the receiver operating characteristic on held-out tiles, 0–1.
        importances: Mean decrease of impurity by statistic; they sum to 1.
    """

    model: Any
    auroc: float
    importances: Mapping[str, float]

    def probability(self, statistics: Values) -> NDArray[np.float32]:
        """Probability that tiles are informative, ``float32 (N,)``; NaN where the statistics ``(N, 4)`` are."""
        found = np.full(len(statistics), np.nan, np.float32)
        known = ~np.isnan(statistics).any(axis=1)
        if known.any():
            found[known] = self.model.predict_proba(statistics[known])[:, 1]
        return found


def fit_forest(
    train: tuple[Values, NDArray[np.int64]], held_out: tuple[Values, NDArray[np.int64]], seed: int, workers: int
) -> Forest:
    """Fit to the training labels and score on the held-out ones.

    Of 100 trees of at most 8 levels that split 8 tiles or more and weigh both classes the same, as in the published
    code of Conrad and Narayan (2021).

    Args:
        train: Statistics ``(N, 4)`` and labels ``(N,)``, 1 informative and 0 not, both of them present.
        held_out: Statistics and labels to score on.
        seed: Random seed of the trees.
        workers: Number of threads.
    """
    model = RandomForestClassifier(
        100, max_depth=8, min_samples_split=8, class_weight="balanced", random_state=seed, n_jobs=workers
    )
    model.fit(*train)
    forest = Forest(model, 0.0, dict(zip(NAMES, model.feature_importances_.tolist(), strict=True)))
    return replace(forest, auroc=auroc(forest.probability(held_out[0]), held_out[1]))


def auroc(probability: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Area under the receiver operating characteristic, 0–1; ties count half."""
    return float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(labels)))


COUNTS = ("tiles", "duplicates", "uniform", "uninformative", "kept")
LITTLE = 0.1
"""Share of a source's tiles below which a source is named in the summary."""
Judge = Callable[[SourceTiles, NDArray[np.bool_]], NDArray[np.float32]]
"""Finds a number ``float32 (N,)`` for each of a source's tiles; those that are not asked for do not matter."""


@dataclass(frozen=True)
class FilterRule:
    """Rule by which a tile is informative.

    Attributes:
        threshold: Least probability.
        uniform_std: Deviation below which a pixel is uniform; 0 for no such rule.
        uniform_share: Share of uniform area from which a tile is uninformative whatever its probability; the 0.8 of
            Conrad and Narayan (2021).
    """

    threshold: float = 0.5
    uniform_std: float = 2.0
    uniform_share: float = 0.8

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= 1 and self.uniform_std >= 0 and 0 < self.uniform_share <= 1):
            raise UserError(
                f"--threshold {self.threshold} --uniform-std {self.uniform_std} --uniform-share {self.uniform_share}: "
                "0 to 1, at least 0, and above 0 up to 1"
            )


def filter_tiles(
    folder: TileSet, probability: Judge, uniform: Judge, rule: FilterRule, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge all tiles that deduplication kept, and write ``filter.csv`` and ``filter.json`` into the set.

    Args:
        folder: Tile set.
        probability: Function that finds the probability of being informative.
        uniform: Function that finds the share of a tile's area that is uniform.
        rule: Thresholds of both.
        about: JSON-ready record of who judges.

    Returns:
        Content of ``filter.json``: counts of ``tiles``, ``duplicates``, ``uniform``, ``uninformative`` and ``kept``
        ones, of the set and by source, and the names of the sources of which ``nothing_left`` or ``little_left`` (less
        than one of ten) is left. What deduplication removed counts for neither.

    Raises:
        UserError: if a tile is damaged or missing, or the set has changed since deduplication.
    """
    sources = folder.sources()
    before = folder.hash_table("dedup")
    by_source: dict[str, dict[str, int]] = {}
    rows = []
    for source, judged in zip(sources, read_kept(sources, folder.tables("dedup")), strict=True):
        numbers = probability(source, judged), uniform(source, judged)
        # In the precision of the table: its reader must find the same tiles with the same threshold.
        likely, alike = (values.round(6) for values in numbers)
        is_uniform = judged & (alike >= rule.uniform_share)
        kept = judged & (likely >= rule.threshold) & ~is_uniform
        marks = (~judged, is_uniform, judged & ~is_uniform & ~kept, kept)
        counts = [len(source), *(int(each.sum()) for each in marks)]
        by_source[source.key] = dict(zip(COUNTS, counts, strict=True))
        why = f"{100 * rule.uniform_share:g} % uniform"
        reasons = np.select([~judged, is_uniform, kept], ["duplicate", why, "informative"], "uninformative")
        rows.append(_rows(source, judged, kept, reasons, *numbers))
    shares = {
        name: counts["kept"] / (counts["tiles"] - counts["duplicates"])
        for name, counts in by_source.items()
        if counts["tiles"] > counts["duplicates"]
    }
    record: dict[str, Any] = {"rule": asdict(rule), "judge": dict(about), "dedup": before}
    record |= {count: sum(counts[count] for counts in by_source.values()) for count in COUNTS}
    record["nothing_left"] = [name for name, share in shares.items() if share == 0]
    record["little_left"] = [name for name, share in shares.items() if 0 < share < LITTLE]
    record["sources"] = by_source
    write_decisions(folder, "filter", ("probability", "uniform_share"), chain.from_iterable(rows), record)
    return record


def _rows(
    source: SourceTiles,
    judged: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    reasons: NDArray[np.str_],
    probability: NDArray[np.float32],
    uniform: NDArray[np.float32],
) -> Iterator[tuple[str | int, ...]]:
    for tile, reason in enumerate(reasons.tolist()):
        numbers = (f"{probability[tile]:.6f}", f"{uniform[tile]:.6f}") if judged[tile] else ("", "")
        yield source.key, tile, int(kept[tile]), reason, *numbers
