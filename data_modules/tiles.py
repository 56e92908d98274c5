"""Data module of tile sets, for pretraining without labels."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from data_modules.augment.views import TwoViews
from data_modules.batch import Batch, TileBatch
from data_modules.errors import UserError, check_fractions, check_positive
from data_modules.geometry import Shape
from data_modules.images.image import split_dataset
from data_modules.patches.loaders import EpochSampler, Patch, ResumableLoader, RunShare, make_loader, require_setup
from data_modules.patches.sampling import PatchSampling, Position
from data_modules.randomness import Purpose, stream
from data_modules.store import MosaicView
from data_modules.store.layout import is_url
from data_modules.tile_set import SIDE, SourceTiles, TileSet, read_kept, read_rows

TileNumbers = NDArray[np.int64]
"""``(N, 2)``: number of the source in the set, and of the tile in the source."""
Labels = tuple[NDArray[np.int64], ...]
"""Number of the label of every tile, an array a source; −1 where a tile has none."""


FOLDER = "folder"
"""Says that tiles are labelled by folder, where the path of a table of labels might stand."""


@dataclass(frozen=True)
class TileSplit:
    """Tiles by their use; no tile has two.

    Attributes:
        train: Tiles to train on, whatever their labels.
        fit: Held-out tiles that a probe learns from.
        score: Held-out tiles that a probe is scored on.
    """

    train: TileNumbers
    fit: TileNumbers
    score: TileNumbers


def label_tiles(labels: str | os.PathLike[str] | None, sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Find the names of the labels, and the label of every tile.

    A folder is the first one below the one that was tiled, as ``heart`` of ``raw/heart/2019/a.tif``, and the latter for
    files directly in it. A file or URL that was tiled alone has a label of its own.

    Args:
        labels: ``None`` to label by source, ``folder`` to label by folder, or the path of a table, see
            :func:`read_labels`.
        sources: Sources of the set, in its order.

    Raises:
        UserError: if the table cannot be read or is of other tiles, or there is one folder only.
    """
    if labels and labels != FOLDER:
        return read_labels(labels, sources)
    groups = [source.key for source in sources]
    names = list(groups)
    if labels:
        files = [source.source.file for source in sources]
        parts = [(file,) if is_url(file) else PurePosixPath(split_dataset(file)[0]).parts for file in files]
        groups = [each[1] if len(each) > 2 else each[0] for each in parts]
        names = sorted(set(groups))
        if len(names) < 2:
            raise UserError(
                f"all sources are of the folder {names[0] if names else ''!r}, which leaves nothing to tell apart: "
                "sort the files into folders and tile them again, or give a table of labels"
            )
    numbers = [names.index(group) for group in groups]
    return names, tuple(np.full(len(source), at, np.int64) for source, at in zip(sources, numbers, strict=True))


def read_labels(path: str | os.PathLike[str], sources: Sequence[SourceTiles]) -> tuple[list[str], Labels]:
    """Names of the labels in the order of the alphabet, and the labels of a table.

    Args:
        path: Table with columns ``source``, ``tile`` and ``label``; tiles without a row have no label.
        sources: Sources of the set, in its order.

    Raises:
        UserError: if the table cannot be read, or is of other tiles.
    """
    found = [(source, tile, row["label"]) for source, tile, row in read_rows(Path(path), sources, "label")]
    names = sorted({label for _, _, label in found})
    labels = tuple(np.full(len(source), -1, np.int64) for source in sources)
    for source, tile, label in found:
        labels[source][tile] = names.index(label)
    return names, labels


def divide(tiles: TileNumbers, labels: Labels, share: float, random: np.random.Generator) -> TileSplit:
    """Hold out the same share of the tiles of every label, and use every other one of them to fit and to score.

    Args:
        tiles: Tiles that may be used.
        labels: Labels of all tiles. Those with fewer than two tiles to hold out are not judged by.
        share: Share of the labelled tiles to hold out, below 1.
        random: Generator that draws which.
    """
    of_tiles = np.array([labels[source][tile] for source, tile in tiles], np.int64)
    train = np.ones(len(tiles), np.bool_)
    parts: tuple[list[int], list[int]] = ([], [])
    for label in range(max(of_tiles, default=-1) + 1):
        places = random.permutation(np.flatnonzero(of_tiles == label))
        held_out = places[: round(share * len(places))]
        if len(held_out) < 2:
            continue
        train[held_out] = False
        for part, chosen in zip(parts, (held_out[::2], held_out[1::2]), strict=True):
            part += chosen.tolist()
    fit, score = (tiles[sorted(part)] for part in parts)
    return TileSplit(tiles[train], fit, score)


class TileImages(Dataset[Batch]):
    """Tiles of a set, read when they are asked for.

    Args:
        sources: Sources of the set, in its order.
        labels: Labels of every tile.
    """

    def __init__(self, sources: Sequence[SourceTiles], labels: Labels) -> None:
        self.mosaics = tuple(sources)
        self.labels = labels

    def __getitems__(self, patches: Sequence[Patch]) -> TileBatch:
        """Read one whole batch.

        Raises:
            UserError: if a tile is damaged or missing, naming source and file.
        """
        places = [(patch.mosaic, patch.origin[0]) for patch in patches]
        tiles = [self.mosaics[source].tile(tile) for source, tile in places]
        images = [mirrored(tile) for tile in tiles]
        sizes = [self.mosaics[source].pixel_size_nm(tile) for source, tile in places]
        return TileBatch(
            image=torch.from_numpy(np.stack(images)[:, None]),
            extent=torch.tensor([tile.shape for tile in tiles]),
            mosaic=torch.tensor([source for source, _ in places]),
            origin=torch.tensor([[tile] for _, tile in places]),
            pixel_size_nm=torch.tensor(sizes),
            index=torch.tensor([patch.index for patch in patches]),
            label=torch.tensor([int(self.labels[source][tile]) for source, tile in places]),
        )


def mirrored(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tile ``uint8 (height, width)`` continued to ``(224, 224)`` by its mirror images below and to the right."""
    height, width = tile.shape
    if (height, width) == (SIDE, SIDE):
        return tile
    return np.pad(tile, ((0, SIDE - height), (0, SIDE - width)), mode="symmetric")


class EveryTile(PatchSampling):
    """Each tile once an epoch, shuffled; the last ones are left out for that epoch where batches would not be whole.

    Args:
        tiles: Tiles to train on.
    """

    def __init__(self, tiles: TileNumbers) -> None:
        self.tiles = tiles

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`; mosaics and size are not looked at."""
        order = random.permutation(len(self.tiles))[:count]
        return [(source, (tile,)) for source, tile in self.tiles[order].tolist()]


class TileModule(RunShare, pl.LightningDataModule):
    """Shared part of data modules of single tiles: the share of each rank, in training and in held-out batches.

    Args:
        tiles: Path of the tile set.
        batch_size: Tiles per step and process.
        num_workers: Number of loader processes; they are started with ``forkserver``.
        seed: Random seed; the run's ``seed_everything`` by default.

    Raises:
        UserError: for a value out of its range.
    """

    def __init__(self, tiles: str, batch_size: int, num_workers: int, seed: int | None) -> None:
        super().__init__()
        check_positive(batch_size=batch_size)
        self.tiles_path, self.batch_size, self.num_workers, self._seed = tiles, batch_size, num_workers, seed
        self._images: TileImages | None = None

    def load(self, tiles: TileNumbers) -> DataLoader[Batch]:
        """Make a loader of this rank's share of an epoch of tiles, in whole batches."""
        rank, world = self.rank_and_world
        count = len(tiles) // (self.batch_size * world) * self.batch_size * world
        sampler = EpochSampler(EveryTile(tiles), (), (SIDE, SIDE), count, self.batch_size, self.seed, rank, world)
        return make_loader(require_setup(self._images), self.num_workers, self.batch_size, sampler, ResumableLoader)

    def read_batches(self, tiles: TileNumbers) -> Iterator[TileBatch]:
        """Read this rank's share of tiles, each once; ``index`` is a tile's place in the order over all ranks."""
        images, (rank, world) = require_setup(self._images), self.rank_and_world
        mine = range(rank, len(tiles), world)
        for start in range(0, len(mine), self.batch_size):
            places = [(place, *tiles[place].tolist()) for place in mine[start : start + self.batch_size]]
            yield images.__getitems__([Patch(source, (tile,), place) for place, source, tile in places])


_MEASURED = 10_000
"""Tiles whose grey values are averaged, at most; half a gigabyte to read."""


class Tiles(TileModule):
    """Streams tiles from a tile set (`emseg curate tile` makes one), two views of each in training.

    An epoch shows every tile once, but for what is left after the last whole batch over all processes.

    Args:
        tiles: Path of the tile set.
        tables: Tables of `emseg curate`; only tiles that all of them kept are used.
        views: How the two views are made.
        batch_size: Tiles per step and process.
        held_out: Share of the tiles of every label that is not trained on, for probes of the features; 0 for none.
        labels: Labels that probes use: ``folder`` for the first folder below the one that was tiled, as data sets of
            images in folders have it, or a table (``source``, ``tile``, ``label``). By default a tile's label is its
            source, so that sources of few tiles are not judged by. Other labels hold other tiles out.
        num_workers: Loader processes; they are started with ``forkserver``.
        seed: Random seed of order, views and held-out tiles; the run's ``seed_everything`` by default.

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
        super().__init__(tiles, batch_size, num_workers, seed)
        check_fractions(held_out=held_out)
        self.tables, self.labels_path = tables or [], labels
        self.views, self.held_out = views or TwoViews(), held_out
        self._division: TileSplit | None = None

    def setup(self, stage: str) -> None:
        """Open the set and choose the tiles.

        Raises:
            UserError: if set or tables cannot be read, or there are fewer tiles than a batch over all processes.
        """
        sources = TileSet(self.tiles_path).sources()
        kept = read_kept(sources, self.tables)
        tiles = [(number, tile) for number, marks in enumerate(kept) for tile in np.flatnonzero(marks)]
        if not tiles:
            tables = ", ".join(self.tables) or "the set"
            raise UserError(f"no tile is left by {tables}: choose other tables")
        _, labels = label_tiles(self.labels_path, sources)
        division = divide(np.array(tiles, np.int64), labels, self.held_out, stream(self.seed, Purpose.SPLIT))
        batch = self.batch_size * self.rank_and_world[1]
        if len(division.train) < batch:
            raise UserError(
                f"{self.tiles_path} has {len(division.train)} tiles to train on, fewer than a batch of {batch} over "
                "all processes: lower data.batch_size"
            )
        self._images, self._division = TileImages(sources, labels), division

    @property
    def division(self) -> TileSplit:
        """Tiles that are trained on and those that are held out."""
        return require_setup(self._division)

    def norms(self) -> tuple[float, float]:
        """Mean and standard deviation of the grey values 0–255 of the training tiles.

        Of all pixels of the tiles themselves, without padding; of 10,000 tiles that the seed chooses where there are
        more.

        Raises:
            UserError: if a tile is damaged, or all are of one grey value.
        """
        train, sources = self.division.train, require_setup(self._images).mosaics
        if len(train) > _MEASURED:
            train = train[np.sort(stream(self.seed, Purpose.VALIDATION).permutation(len(train))[:_MEASURED])]
        counts = np.zeros(256, np.int64)
        for source, tile in train.tolist():
            counts += np.bincount(sources[source].tile(tile).ravel(), minlength=256)
        grey = np.arange(256)
        mean = float(counts @ grey / counts.sum())
        std = float(np.sqrt(counts @ (grey - mean) ** 2 / counts.sum()))
        if std == 0:
            raise UserError(f"all tiles of {self.tiles_path} have the grey value {mean:g}: look at the images")
        return mean, std

    def train_dataloader(self) -> DataLoader[Batch]:
        """Make the loader of this rank's share of the epoch's tiles, in whole batches."""
        return self.load(self.division.train)

    def probe_batches(self) -> tuple[Iterator[TileBatch], Iterator[TileBatch]]:
        """Read this rank's share of the held-out tiles, those to fit a probe to and those to score it on."""
        return self.read_batches(self.division.fit), self.read_batches(self.division.score)

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
