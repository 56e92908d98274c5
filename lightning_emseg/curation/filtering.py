"""Informative tiles of those that deduplication kept, and the random forest that a network has to beat."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
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
        model: Of scikit-learn.
        auroc: Area under the receiver operating characteristic on held-out tiles, 0–1.
    """

    model: Any
    auroc: float

    def probability(self, statistics: Values) -> NDArray[np.float32]:
        """That tiles are informative, ``float32 (N,)``; NaN where the statistics ``(N, 4)`` are."""
        found = np.full(len(statistics), np.nan, np.float32)
        known = ~np.isnan(statistics).any(axis=1)
        if known.any():
            found[known] = self.model.predict_proba(statistics[known])[:, 1]
        return found

    def importances(self) -> Mapping[str, float]:
        """Mean decrease of impurity by statistic; they sum to 1."""
        return dict(zip(NAMES, self.model.feature_importances_.tolist(), strict=True))


def fit_forest(
    train: tuple[Values, NDArray[np.int64]], held_out: tuple[Values, NDArray[np.int64]], seed: int, workers: int
) -> Forest:
    """Fit to the training labels and score on the held-out ones.

    Of 100 trees of at most 8 levels that split 8 tiles or more and weigh both classes the same, as in the published
    code of Conrad and Narayan (2021).

    Args:
        train: Statistics ``(N, 4)`` and labels ``(N,)``, 1 informative and 0 not, both of them present.
        held_out: Likewise.
        seed: Of the trees.
        workers: Threads.
    """
    model = RandomForestClassifier(
        100, max_depth=8, min_samples_split=8, class_weight="balanced", random_state=seed, n_jobs=workers
    )
    model.fit(*train)
    forest = Forest(model, 0.0)
    return Forest(model, auroc(forest.probability(held_out[0]), held_out[1]))


def auroc(probability: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Area under the receiver operating characteristic, 0–1; ties count half."""
    return float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(labels)))


COLUMNS = ("probability", "uniform_share")
LITTLE = 0.1
"""Share of a source's tiles below which what is left of it is too little to go unsaid."""
Judge = Callable[[SourceTiles, NDArray[np.bool_]], NDArray[np.float32]]
"""A number ``float32 (N,)`` of each of a source's tiles; those that are not asked for do not matter."""


@dataclass(frozen=True)
class FilterRule:
    """When a tile is informative.

    Attributes:
        threshold: Least probability.
        uniform_std: See :func:`lightning_emseg.curation.statistics.uniform_share`; 0 for no such rule.
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


@dataclass(frozen=True)
class Filtered:
    """What a filter left of a set.

    Attributes:
        counts: ``tiles``, ``duplicates``, ``uniform``, ``uninformative`` and ``kept``.
        nothing_left: Names of the sources that lost every tile to it.
        little_left: Of those that lost more than nine of ten. What deduplication removed counts for neither.
    """

    counts: Mapping[str, int]
    nothing_left: Sequence[str]
    little_left: Sequence[str]


@dataclass(frozen=True)
class _Judged:
    """One source: which tiles are duplicates, and the numbers of the others."""

    source: SourceTiles
    looked_at: NDArray[np.bool_]
    probability: NDArray[np.float32]
    uniform: NDArray[np.float32]

    def kept(self, rule: FilterRule) -> NDArray[np.bool_]:
        """``bool (N,)``."""
        # In the precision of the table: its reader must find the same tiles with the same threshold.
        return self.looked_at & (self.probability.round(6) >= rule.threshold) & ~self.is_uniform(rule)

    def is_uniform(self, rule: FilterRule) -> NDArray[np.bool_]:
        """``bool (N,)``."""
        return self.looked_at & (self.uniform.round(6) >= rule.uniform_share)

    def rows(self, rule: FilterRule) -> Iterator[tuple[str | int, ...]]:
        """Of the table."""
        name, kept, uniform = self.source.source.name, self.kept(rule), self.is_uniform(rule)
        for tile in range(len(self.source)):
            if not self.looked_at[tile]:
                yield name, tile, 0, "duplicate", "", ""
                continue
            reason = "informative" if kept[tile] else "uninformative"
            if uniform[tile]:
                reason = f"{100 * rule.uniform_share:g} % uniform"
            yield name, tile, int(kept[tile]), reason, f"{self.probability[tile]:.6f}", f"{self.uniform[tile]:.6f}"


def filter_tiles(
    folder: TileSet, probability: Judge, uniform: Judge, rule: FilterRule, about: Mapping[str, Any]
) -> Filtered:
    """Judge all tiles that deduplication kept, and write ``filter.csv`` and ``filter.json`` into the set.

    Args:
        folder: The tile set.
        probability: That a tile is informative.
        uniform: Share of its area that is uniform.
        rule: What follows from them.
        about: JSON-ready record of who judges.

    Raises:
        UserError: if a tile is damaged or missing, or the set has changed since deduplication.
    """
    sources = folder.sources()
    before = deduplicated(folder)
    judged = [
        _Judged(source, wanted, probability(source, wanted), uniform(source, wanted))
        for source, wanted in zip(sources, read_kept(sources, folder.tables("dedup")), strict=True)
    ]
    by_source = {each.source.source.name: _counts([each], rule) for each in judged}
    shares = {
        name: counts["kept"] / (counts["tiles"] - counts["duplicates"])
        for name, counts in by_source.items()
        if counts["tiles"] > counts["duplicates"]
    }
    found = Filtered(
        _counts(judged, rule),
        [name for name, share in shares.items() if share == 0],
        [name for name, share in shares.items() if 0 < share < LITTLE],
    )
    record: dict[str, Any] = {"rule": asdict(rule), "judge": dict(about), "dedup": before, **found.counts}
    record |= {"nothing_left": found.nothing_left, "little_left": found.little_left, "sources": by_source}
    write_decisions(folder, "filter", COLUMNS, (row for each in judged for row in each.rows(rule)), record)
    return found


def deduplicated(folder: TileSet) -> str | None:
    """Hash of the table of deduplication that the set has, ``None`` where there is none."""
    path: Path = folder.path / "dedup.csv"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counts(judged: Sequence[_Judged], rule: FilterRule) -> dict[str, int]:
    tiles = sum(len(each.source) for each in judged)
    looked_at = sum(int(each.looked_at.sum()) for each in judged)
    uniform = sum(int(each.is_uniform(rule).sum()) for each in judged)
    kept = sum(int(each.kept(rule).sum()) for each in judged)
    return {
        "tiles": tiles,
        "duplicates": tiles - looked_at,
        "uniform": uniform,
        "uninformative": looked_at - uniform - kept,
        "kept": kept,
    }
