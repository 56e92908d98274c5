"""Tiles that somebody has called informative or uninformative: the data module, and which of them are held out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader

from data_modules.batch import Batch, TileBatch
from data_modules.errors import UserError
from data_modules.patches.loaders import require_setup
from data_modules.randomness import Purpose, stream
from data_modules.tile_set import SourceTiles, TileSet
from data_modules.tiles import Labels, TileImages, TileModule, TileNumbers, read_labels

NAMES = ("uninformative", "informative")
"""By the number of the label."""
HELD_OUT = 1 / 7
"""2,000 of 14,000 labels, as in Conrad and Narayan (2021)."""


@dataclass(frozen=True)
class LabelSplit:
    """Labelled tiles.

    Attributes:
        labels: Labels of all tiles of the set: 1 informative, 0 uninformative, −1 none.
        train: Tiles to learn from, in the order of the set.
        held_out: Tiles to score on, likewise.
    """

    labels: Labels
    train: TileNumbers
    held_out: TileNumbers


def split_labels(path: str | os.PathLike[str], sources: list[SourceTiles], share: float, seed: int) -> LabelSplit:
    """Read a table of labels and hold out the same share of both of them.

    Args:
        path: Table with columns ``source``, ``tile`` and ``label``; `emseg curate label` makes one.
        sources: Sources of the set.
        share: Share of the labels to hold out, above 0 and below 1.
        seed: Random seed; the same tiles for the same seed and table, whatever is trained.

    Raises:
        UserError: if the table cannot be read or is of other tiles, there are other labels, or a part would have only
            one of them.
    """
    if not 0 < share < 1:
        raise UserError(f"held_out must be above 0 and below 1, got {share:g}")
    found, labels = read_labels(path, sources)
    if strange := set(found) - set(NAMES):
        raise UserError(f"{path} has the label {min(strange)!r}: only {' and '.join(NAMES)} are known")
    number = {index: NAMES.index(name) for index, name in enumerate(found)} | {-1: -1}
    labels = tuple(np.array([number[value] for value in each.tolist()], np.int64) for each in labels)
    random = stream(seed, Purpose.SPLIT)
    parts: tuple[list[TileNumbers], list[TileNumbers]] = ([], [])
    for label, name in enumerate(NAMES):
        tiles = np.array(
            [(source, tile) for source, each in enumerate(labels) for tile in np.flatnonzero(each == label)], np.int64
        ).reshape(-1, 2)
        if len(tiles) < 2:
            raise UserError(
                f"{path} calls {len(tiles)} tiles {name}: label at least 2, one to learn from and one to score"
            )
        count = min(max(1, round(share * len(tiles))), len(tiles) - 1)
        order = random.permutation(len(tiles))
        parts[0].append(tiles[order[count:]])
        parts[1].append(tiles[order[:count]])
    train, held_out = (np.array(sorted(np.concatenate(part).tolist()), np.int64) for part in parts)
    return LabelSplit(labels, train, held_out)


class LabelledTiles(TileModule):
    """Tiles of a set with labels, for a classifier of tiles.

    An epoch shows every training tile once, but for what is left after the last whole batch over all processes. Tiles
    smaller than 224 px are mirrored beyond their edges.

    Args:
        tiles: Path of the tile set.
        labels: Table of `emseg curate label`; ``labels.csv`` in the set by default.
        held_out: Share of the labels to score on.
        batch_size: Tiles per step and process.
        num_workers: Loader processes; they are started with ``forkserver``.
        seed: Random seed of order and held-out labels; the run's ``seed_everything`` by default.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(
        self,
        tiles: str,
        labels: str | None = None,
        held_out: float = HELD_OUT,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(tiles, batch_size, num_workers, seed)
        self.labels_path, self.held_out = labels or f"{tiles}/labels.csv", held_out
        self._split: LabelSplit | None = None

    def setup(self, stage: str) -> None:
        """Open the set and divide the labels.

        Raises:
            UserError: if set or labels cannot be read, or there are fewer labels than a batch over all processes.
        """
        sources = TileSet(self.tiles_path).sources()
        split = split_labels(self.labels_path, sources, self.held_out, self.seed)
        batch = self.batch_size * self.rank_and_world[1]
        if len(split.train) < batch:
            raise UserError(
                f"{self.labels_path} has {len(split.train)} labels to train on, fewer than a batch of {batch} over all "
                "processes: label more tiles, or lower data.batch_size"
            )
        self._images, self._split = TileImages(sources, split.labels), split

    @property
    def split(self) -> LabelSplit:
        """Labelled tiles that are trained on and those that are held out."""
        return require_setup(self._split)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Make the loader of this rank's tiles, in whole batches; ``label`` is 1 for informative, 0 for others."""
        return self.load(self.split.train)

    def held_out_batches(self) -> Iterator[TileBatch]:
        """Read this rank's share of the held-out tiles, each of them once."""
        return self.read_batches(self.split.held_out)
