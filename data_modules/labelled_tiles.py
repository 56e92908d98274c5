"""Tiles that somebody has called informative or uninformative: the data module, and which of them are held out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from data_modules.batch import Batch, TileBatch
from data_modules.errors import UserError, check_positive
from data_modules.patches.loaders import EpochSampler, Patch, ResumableLoader, make_loader
from data_modules.randomness import Purpose, stream
from data_modules.tile_set import SIDE, SourceTiles, TileSet
from data_modules.tiles import EveryTile, Labels, TileImages, TileNumbers, read_labels

NAMES = ("uninformative", "informative")
"""By the number of the label."""
HELD_OUT = 1 / 7
"""2,000 of 14,000 labels, as in Conrad and Narayan (2021)."""


@dataclass(frozen=True)
class LabelSplit:
    """Labelled tiles.

    Attributes:
        labels: Of all tiles of the set: 1 informative, 0 uninformative, −1 none.
        train: Tiles to learn from, in the order of the set.
        held_out: Tiles to score on, likewise.
    """

    labels: Labels
    train: TileNumbers
    held_out: TileNumbers

    def of(self, tiles: TileNumbers) -> list[int]:
        """Labels of tiles."""
        return [int(self.labels[source][tile]) for source, tile in tiles.tolist()]


def split_labels(path: str | os.PathLike[str], sources: list[SourceTiles], share: float, seed: int) -> LabelSplit:
    """Read a table of labels and hold out the same share of both of them.

    Args:
        path: Table with columns ``source``, ``tile`` and ``label``; `emseg curate label` makes one.
        sources: Of the set.
        share: Of the labels to hold out, above 0 and below 1.
        seed: Draws which; the same tiles for the same seed and table, whatever is trained.

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


class LabelledTiles(pl.LightningDataModule):
    """Tiles of a set with labels, for a classifier of tiles.

    An epoch shows every training tile once, but for what is left after the last whole batch over all processes. Tiles
    smaller than 224 px are mirrored beyond their edges.

    Args:
        tiles: Path of the tile set.
        labels: Table of `emseg curate label`; ``labels.csv`` in the set by default.
        held_out: Share of the labels to score on.
        batch_size: Tiles per step and process.
        num_workers: Loader processes; they are started with ``forkserver``.
        seed: Of order and of what is held out; the run's ``seed_everything`` by default.

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
        super().__init__()
        check_positive(batch_size=batch_size)
        self.tiles_path, self.labels_path, self.held_out = tiles, labels or f"{tiles}/labels.csv", held_out
        self.batch_size, self.num_workers, self._seed = batch_size, num_workers, seed
        self._opened: tuple[TileImages, LabelSplit] | None = None

    @property
    def seed(self) -> int:
        """Of order and of what is held out."""
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self._seed is None else self._seed

    def setup(self, stage: str) -> None:
        """Open the set and divide the labels.

        Raises:
            UserError: if set or labels cannot be read, or there are fewer labels than a batch over all processes.
        """
        sources = TileSet(self.tiles_path).sources()
        split = split_labels(self.labels_path, sources, self.held_out, self.seed)
        batch = self.batch_size * self._rank_and_world()[1]
        if len(split.train) < batch:
            raise UserError(
                f"{self.labels_path} has {len(split.train)} labels to train on, fewer than a batch of {batch} over all "
                "processes: label more tiles, or lower data.batch_size"
            )
        self._opened = TileImages(sources, split.labels), split

    @property
    def split(self) -> LabelSplit:
        """Which labelled tiles are trained on and which are held out."""
        return self._ready()[1]

    def train_dataloader(self) -> DataLoader[Batch]:
        """This rank's share of the epoch's tiles, in whole batches; ``label`` is 1 for informative, 0 for others."""
        images, split = self._ready()
        rank, world = self._rank_and_world()
        count = len(split.train) // (self.batch_size * world) * self.batch_size * world
        sampler = EpochSampler(EveryTile(split.train), (), (SIDE, SIDE), count, self.batch_size, self.seed, rank, world)
        return make_loader(images, self.num_workers, self.batch_size, sampler, ResumableLoader)

    def held_out_batches(self) -> Iterator[TileBatch]:
        """This rank's share of the held-out tiles, each of them once."""
        images, split = self._ready()
        rank, world = self._rank_and_world()
        mine = range(rank, len(split.held_out), world)
        for start in range(0, len(mine), self.batch_size):
            places = [(place, *split.held_out[place].tolist()) for place in mine[start : start + self.batch_size]]
            yield images.__getitems__([Patch(source, (tile,), place) for place, source, tile in places])

    def _ready(self) -> tuple[TileImages, LabelSplit]:
        if self._opened is None:
            raise UserError("the data module is not set up: call setup('fit') or use it through a Trainer")
        return self._opened

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
