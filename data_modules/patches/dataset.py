"""Datasets of patches for training and of tiles for evaluation and prediction."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from data_modules.batch import IGNORE, Batch
from data_modules.errors import UserError
from data_modules.geometry import Grid, Shape, Sweep, TileRun
from data_modules.patches.loaders import Patch
from data_modules.randomness import Purpose, stream
from data_modules.store import MosaicView
from data_modules.store.layout import ReadError

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Hands out items that are asked for in order; a thread loads the next one meanwhile.

    At most one item is held beside the one that was handed out.

    Args:
        load: Loads the item of an index; what it raises is raised where that item is asked for.
        length: Number of items.
    """

    def __init__(self, load: Callable[[int], Item], length: int) -> None:
        self._load, self._length = load, length
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._next: tuple[int, Future[Item]] | None = None

    def __getitem__(self, index: int) -> Item:
        expected, self._next = self._next, None
        item = expected[1].result() if expected is not None and expected[0] == index else self._load(index)
        if index + 1 < self._length:
            self._next = index + 1, self._thread.submit(self._load, index + 1)
        return item


Tile = tuple[int, Shape, tuple[slice, ...]]
"""Mosaic and origin of a tile, and the part of it that counts, in px of the mosaic."""


def make_batch(
    mosaics: Sequence[MosaicView],
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.uint8]] | None,
    positions: Sequence[tuple[int, Shape, int]],
    flat: bool = False,
) -> Batch:
    """Stack patches into a batch.

    Args:
        mosaics: The loader's mosaics.
        images: ``(Y, X)`` or ``(Z, Y, X)`` each.
        masks: Likewise, or ``None``.
        positions: Mosaic, origin and index of each patch.
        flat: Whether patches of volumes are single planes and become images; their origins keep three values.
    """
    if flat:
        images, masks = [image[0] for image in images], masks and [mask[0] for mask in masks]
    batch = Batch(
        image=torch.from_numpy(np.stack(images)[:, None]),
        mosaic=torch.tensor([mosaic for mosaic, _, _ in positions]),
        origin=torch.tensor([origin for _, origin, _ in positions]),
        pixel_size_nm=torch.tensor([mosaics[mosaic].pixel_size_nm for mosaic, _, _ in positions]),
        index=torch.tensor([index for _, _, index in positions]),
    )
    if masks is not None:
        batch["mask"] = torch.from_numpy(np.stack(masks))
    return batch


class PatchDataset(Dataset[Batch]):
    """Patches at positions that an :class:`~data_modules.patches.loaders.EpochSampler` hands out.

    Args:
        mosaics: Training mosaics.
        size: Of the patch that is read, in px.
        flat: Whether patches of volumes are single planes and become images.
    """

    def __init__(self, mosaics: Sequence[MosaicView], size: Shape, flat: bool = False) -> None:
        self.mosaics = tuple(mosaics)
        self.size, self.flat = size, flat

    def __getitems__(self, patches: Sequence[Patch]) -> Batch:
        """Read one whole batch: image ``uint8 (B, 1, Y, X)`` and mask ``uint8 (B, Y, X)``."""
        images = [self.mosaics[patch.mosaic].read_image(patch.origin, self.size) for patch in patches]
        masks = [self.mosaics[patch.mosaic].read_mask(patch.origin, self.size) for patch in patches]
        return self._of_step(images, masks, patches)

    def __getitem__(self, patch: Patch) -> Batch:
        return self.__getitems__([patch])

    def _of_step(
        self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.uint8]], patches: Sequence[Patch]
    ) -> Batch:
        positions = [(patch.mosaic, patch.origin, patch.index) for patch in patches]
        batch = make_batch(self.mosaics, images, masks, positions, self.flat)
        # The same for all patches of a batch.
        return {**batch, "weight": patches[0].weight, "together": patches[0].together}


class TileDataset(Dataset[Batch]):
    """Chosen tiles with their masks, for the cheap validation; item ``i`` is a whole batch.

    A rank without any has one batch without tiles: Lightning would let it skip the validation in which the others wait
    for it, and DDP's first forward pass after training is one in which all ranks have to take part.

    Args:
        mosaics: Mosaics with labels.
        size: Of a tile, in px.
        tiles: Mosaic and origin of each tile, and the part of it that counts, in px of the mosaic; the rest of
            its mask is set to ignore, so that no pixel counts twice.
        batch_size: Tiles in a batch.
        label: Name of the foreground.
        rank: Of this process, which takes each ``world``-th tile.
        world: Number of processes.
        flat: Whether tiles of volumes are single planes and become images.
    """

    def __init__(
        self,
        mosaics: Sequence[MosaicView],
        size: Shape,
        tiles: Sequence[Tile],
        batch_size: int,
        label: str,
        rank: int = 0,
        world: int = 1,
        flat: bool = False,
    ) -> None:
        self.mosaics, self.label = tuple(mosaics), label
        self.sweep: Sweep | None = None
        self._size, self._batch_size, self._flat = size, batch_size, flat
        self._tiles = tuple(enumerate(tiles))[rank::world]

    def __len__(self) -> int:
        return max(1, -(-len(self._tiles) // self._batch_size))

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if not self._tiles:
            size = self._size[1:] if self._flat else self._size
            return {**_nothing(size), "mask": torch.zeros((0, *size), dtype=torch.uint8)}
        first = index * self._batch_size
        chosen = self._tiles[first : first + self._batch_size]
        images = [self.mosaics[mosaic].read_image(origin, self._size) for _, (mosaic, origin, _) in chosen]
        masks = [self._mask(*tile) for _, tile in chosen]
        positions = [(mosaic, origin, number) for number, (mosaic, origin, _) in chosen]
        return make_batch(self.mosaics, images, masks, positions, self._flat)

    def _mask(self, mosaic: int, origin: Shape, counted: tuple[slice, ...]) -> NDArray[np.uint8]:
        mask = self.mosaics[mosaic].read_mask(origin, self._size)
        kept = np.full_like(mask, IGNORE)
        inside = tuple(slice(c.start - o, c.stop - o) for c, o in zip(counted, origin, strict=True))
        kept[inside] = mask[inside]
        return kept


class SweepDataset(Dataset[Batch]):
    """Runs of overlapping tiles that cover whole mosaics; item ``i`` is a whole batch without mask.

    A run is read as one strip and cut into its tiles, so overlapping pixels are decoded once. Where there are no
    worker processes, a thread reads the next run meanwhile. A sweep of nothing is one batch without tiles, because
    Lightning would let a rank with no batch at all skip the steps in which the others wait for it.

    Args:
        mosaics: Mosaics to predict.
        sweep: Which tiles, in which order.
        label: Name of the foreground.
    """

    def __init__(self, mosaics: Sequence[MosaicView], sweep: Sweep, label: str) -> None:
        self.mosaics, self.label = tuple(mosaics), label
        self.sweep = sweep
        self._runs: list[TileRun] = [run for span in sweep.spans for run in sweep.runs(span)]
        self._ahead: ReadAhead[Batch] | None = None

    def __len__(self) -> int:
        return max(1, len(self._runs))

    def __getitem__(self, index: int) -> Batch:
        if get_worker_info() is not None:
            return self._load(index)
        if self._ahead is None:
            self._ahead = ReadAhead(self._load, len(self))
        return self._ahead[index]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_ahead": None}

    def _load(self, index: int) -> Batch:
        if not self._runs:
            return _nothing(self.sweep.grids[0].tile)
        run = self._runs[index]
        tile = self.sweep.grids[run.mosaic].tile
        first, last = run.origins[0], run.origins[-1]
        strip = self.mosaics[run.mosaic].read_image(first, (*tile[:-1], last[-1] + tile[-1] - first[-1]))
        images = [strip[..., at - first[-1] : at - first[-1] + tile[-1]] for *_, at in run.origins]
        return make_batch(self.mosaics, images, None, [(run.mosaic, origin, index) for origin in run.origins])


def _nothing(tile: Shape) -> Batch:
    """A batch without tiles."""
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(
        image=torch.zeros((0, 1, *tile), dtype=torch.uint8),
        mosaic=none,
        origin=none.reshape(0, len(tile)),
        pixel_size_nm=torch.zeros(0, len(tile)),
        index=none,
    )


def spread_tiles(mosaics: Sequence[MosaicView], size: Shape, count: int | None, seed: int) -> list[Tile]:
    """Non-overlapping tiles for the cheap validation: a fixed, seeded choice, equally many from each mosaic.

    Args:
        mosaics: Mosaics with labels.
        size: Of a tile, in px.
        count: Number of tiles over all mosaics, at least one each; ``None`` for all.
        seed: Of the choice.
    """
    chosen: list[Tile] = []
    for index, mosaic in enumerate(mosaics):
        grid = Grid(mosaic.shape, size)
        tiles = list(grid)
        if count is not None:
            share = max(1, count // len(mosaics) + (index < count % len(mosaics)))
            picks = stream(seed, Purpose.VALIDATION, index).permutation(len(tiles))[:share]
            tiles = [tiles[pick] for pick in sorted(picks)]
        chosen += [(index, origin, grid.owned(origin)) for origin in tiles]
    return chosen


Pixels = NDArray[np.uint8]


class SkippingPatches(PatchDataset):
    """Patches of a store of which single chunks may be damaged or missing.

    A patch that needs such a chunk keeps its place in the batch, so that all ranks take the same steps, but all its
    pixels are ignored, and it shows a readable patch of that batch, so that statistics over the batch stay those of
    real images. Each is reported by a warning. A store that has gone or was replaced still ends the run.

    Args:
        mosaics: Training mosaics.
        size: Of the patch that is read, in px.
        flat: Whether patches of volumes are single planes and become images.
    """

    def __getitems__(self, patches: Sequence[Patch]) -> Batch:
        """Read one whole batch: image ``uint8 (B, 1, Y, X)`` and mask ``uint8 (B, Y, X)``.

        Raises:
            UserError: if no patch of the batch can be read, or for another reason than damage.
        """
        found = [self._read(patch) for patch in patches]
        readable = [pixels for pixels in found if pixels is not None]
        if not readable:
            keys = sorted({self.mosaics[patch.mosaic].key for patch in patches})
            raise UserError(
                f"no patch of a batch could be read, so that there is nothing to skip to ({', '.join(keys)}): run "
                "`emseg data verify STORE` and convert the samples again"
            )
        stand_in = readable[0][0], np.full_like(readable[0][1], IGNORE)
        images, masks = zip(*(pixels or stand_in for pixels in found), strict=True)
        return self._of_step(images, masks, patches)

    def _read(self, patch: Patch) -> tuple[Pixels, Pixels] | None:
        mosaic = self.mosaics[patch.mosaic]
        try:
            return mosaic.read_image(patch.origin, self.size), mosaic.read_mask(patch.origin, self.size)
        except UserError as error:
            cause = error.__cause__
            if not (isinstance(cause, ReadError) and cause.kind in ("damaged", "missing")):
                raise
            warnings.warn(f"the patch at {patch.origin} of {mosaic.key} is left out: {error}", stacklevel=1)
            return None
