"""The data module of tile sets, for pretraining without labels."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from data_modules.augment.views import TwoViews
from data_modules.batch import Batch
from data_modules.errors import UserError, check_fractions, check_positive
from data_modules.patches.loaders import EpochSampler, Patch, ResumableLoader, make_loader
from data_modules.randomness import Purpose, stream
from data_modules.tile_choice import Division, TileNumbers, divide, kept_tiles, label_tiles
from data_modules.tile_images import EveryTile, TileBatch, TileImages
from data_modules.tile_set import SIDE, SourceTiles, TileSet

_MEASURED = 10_000
"""Tiles whose grey values are averaged, at most; half a gigabyte to read."""


@dataclass(frozen=True)
class _Opened:
    sources: list[SourceTiles]
    images: TileImages
    division: Division
    labels: list[str]


class Tiles(pl.LightningDataModule):
    """Streams tiles from a tile set (`emseg curate tile` makes one), two views of each in training.

    An epoch shows every tile once, but for what is left after the last whole batch over all processes.

    Args:
        tiles: Path of the tile set.
        tables: Tables of `emseg curate`; only tiles that all of them kept are used.
        views: How the two views are made.
        batch_size: Tiles per step and process.
        held_out: Share of the tiles of every label that is not trained on, for probes of the features; 0 for none.
        labels: What probes go by: ``folder`` for the first folder below the one that was tiled, as data sets of images
            in folders have it, or a table (``source``, ``tile``, ``label``). By default a tile's label is its source,
            so that sources of few tiles are not judged by. Other labels hold other tiles out.
        num_workers: Loader processes; they are started with ``forkserver``.
        seed: Of order, views and of what is held out; the run's ``seed_everything`` by default.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(
        self,
        tiles: str,
        tables: list[str] | None = None,
        views: TwoViews | None = None,
        batch_size: int = 32,
        held_out: float = 0.02,
        labels: str | None = None,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_fractions(held_out=held_out)
        check_positive(batch_size=batch_size)
        self.tiles_path, self.tables, self.labels_path = tiles, tables or [], labels
        self.views, self.batch_size, self.held_out = views or TwoViews(), batch_size, held_out
        self.num_workers, self._seed = num_workers, seed
        self._opened: _Opened | None = None

    @property
    def seed(self) -> int:
        """Of order, views and what is held out."""
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self._seed is None else self._seed

    def setup(self, stage: str) -> None:
        """Open the set and choose the tiles.

        Raises:
            UserError: if set or tables cannot be read, or there are fewer tiles than a batch over all processes.
        """
        sources = TileSet(self.tiles_path).sources()
        tiles = kept_tiles(sources, self.tables)
        names, labels = label_tiles(self.labels_path, sources)
        division = divide(tiles, labels, self.held_out, stream(self.seed, Purpose.SPLIT))
        batch = self.batch_size * self._rank_and_world()[1]
        if len(division.train) < batch:
            raise UserError(
                f"{self.tiles_path} has {len(division.train)} tiles to train on, fewer than a batch of {batch} over "
                "all processes: lower data.batch_size"
            )
        self._opened = _Opened(sources, TileImages(sources, labels), division, names)

    @property
    def division(self) -> Division:
        """Which tiles are trained on and which are held out."""
        return self._ready().division

    @property
    def label_names(self) -> list[str]:
        """By the number of the label."""
        return self._ready().labels

    def norms(self) -> tuple[float, float]:
        """Mean and standard deviation of the grey values 0–255 of the training tiles.

        Of all pixels of the tiles themselves, without padding; of 10,000 tiles that the seed chooses where there are
        more.

        Raises:
            UserError: if a tile is damaged, or all are of one grey value.
        """
        opened = self._ready()
        train = opened.division.train
        if len(train) > _MEASURED:
            train = train[np.sort(stream(self.seed, Purpose.VALIDATION).permutation(len(train))[:_MEASURED])]
        counts = sum((_histogram(opened.sources, place) for place in train.tolist()), np.zeros(256, np.int64))
        grey = np.arange(256)
        mean = float(counts @ grey / counts.sum())
        std = float(np.sqrt(counts @ (grey - mean) ** 2 / counts.sum()))
        if std == 0:
            raise UserError(f"all tiles of {self.tiles_path} have the grey value {mean:g}: look at the images")
        return mean, std

    def train_dataloader(self) -> DataLoader[Batch]:
        """This rank's share of the epoch's tiles, in whole batches."""
        opened = self._ready()
        rank, world = self._rank_and_world()
        train = opened.division.train
        count = len(train) // (self.batch_size * world) * self.batch_size * world
        sampler = EpochSampler(EveryTile(train), (), (SIDE, SIDE), count, self.batch_size, self.seed, rank, world)
        return make_loader(opened.images, self.num_workers, self.batch_size, sampler, ResumableLoader)

    def probe_batches(self) -> tuple[Iterator[TileBatch], Iterator[TileBatch]]:
        """This rank's share of the held-out tiles, those to fit a probe to and those to score it on.

        ``index`` is a tile's place in the order over all ranks.
        """
        return self._probe_part(self.division.fit), self._probe_part(self.division.score)

    def _probe_part(self, tiles: TileNumbers) -> Iterator[TileBatch]:
        rank, world = self._rank_and_world()
        mine = range(rank, len(tiles), world)
        for start in range(0, len(mine), self.batch_size):
            places = [(place, *tiles[place].tolist()) for place in mine[start : start + self.batch_size]]
            yield self._ready().images.__getitems__([Patch(source, (tile,), place) for place, source, tile in places])

    def transfer_batch_to_device(self, batch: TileBatch, device: torch.device, dataloader_idx: int) -> TileBatch:
        """As always, but what views are drawn by stays on the CPU: to read it back would wait for the device."""
        moved: TileBatch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        moved["index"], moved["extent"] = batch["index"], batch["extent"]
        moved["mosaic"], moved["origin"] = batch["mosaic"], batch["origin"]
        return moved

    def on_after_batch_transfer(self, batch: TileBatch, dataloader_idx: int) -> TileBatch:
        """Make the views, on the device."""
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.views(batch, self.seed, self.trainer.current_epoch)

    def _ready(self) -> _Opened:
        if self._opened is None:
            raise UserError("the data module is not set up: call setup('fit') or use it through a Trainer")
        return self._opened

    def _rank_and_world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _histogram(sources: list[SourceTiles], place: list[int]) -> NDArray[np.int64]:
    source, tile = place
    return np.bincount(sources[source].tile(tile).ravel(), minlength=256)
