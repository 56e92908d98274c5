"""Datasets of whole batches: patches for training, tiles for evaluation and prediction."""

import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from data_modules.batch import IGNORE, Batch
from data_modules.errors import UserError
from data_modules.geometry import Grid, Shape, Sweep
from data_modules.patches.loaders import Patch
from data_modules.randomness import Purpose, stream
from data_modules.store import MosaicView
from data_modules.store.layout import ReadError

Pixels = NDArray[np.uint8]
Tile = tuple[int, Shape, tuple[slice, ...]]
"""Mosaic and origin of a tile, and the part of it that counts, in px of the mosaic."""


def make_batch(
    mosaics: Sequence[MosaicView],
    images: Sequence[Pixels],
    masks: Sequence[Pixels] | None,
    positions: Sequence[tuple[int, Shape, int]],
    flat: bool = False,
) -> Batch:
    """Stack patches into a batch.

    Args:
        mosaics: Mosaics of the loader.
        images: Grey levels ``(Y, X)`` or ``(Z, Y, X)`` of each patch.
        masks: Masks of the same shape, or ``None``.
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


def _empty_batch(tile: Shape) -> Batch:
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(
        image=torch.zeros((0, 1, *tile), dtype=torch.uint8),
        mosaic=none,
        origin=none.reshape(0, len(tile)),
        pixel_size_nm=torch.zeros(0, len(tile)),
        index=none,
    )


class PatchDataset(Dataset[Batch]):
    """Patches at positions that an :class:`~data_modules.patches.loaders.EpochSampler` hands out.

    With ``skip_damaged``, a patch that needs a damaged or missing chunk keeps its place in the batch, so that all ranks
    take the same steps. All its pixels are ignored, and it shows a readable patch of that batch, so that statistics
    over the batch stay those of real images. Each is reported by a warning. A store that has gone or was replaced still
    ends the run.

    Args:
        mosaics: Training mosaics.
        size: Size of the patch that is read, in px.
        flat: Whether patches of volumes are single planes and become images.
        skip_damaged: Whether patches with damaged or missing chunks are left out instead of ending the run.
    """

    def __init__(
        self, mosaics: Sequence[MosaicView], size: Shape, flat: bool = False, skip_damaged: bool = False
    ) -> None:
        self.mosaics = tuple(mosaics)
        self.size, self.flat, self.skip_damaged = size, flat, skip_damaged

    def __getitems__(self, patches: Sequence[Patch]) -> Batch:
        """Read one whole batch: image ``uint8 (B, 1, Y, X)`` and mask ``uint8 (B, Y, X)``.

        Raises:
            UserError: if a patch cannot be read; with ``skip_damaged``, if no patch of the batch can be read, or for
                another reason than damage.
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
        positions = [(patch.mosaic, patch.origin, patch.index) for patch in patches]
        batch = make_batch(self.mosaics, images, masks, positions, self.flat)
        # The same for all patches of a batch.
        return {**batch, "weight": patches[0].weight, "together": patches[0].together}

    def _read(self, patch: Patch) -> tuple[Pixels, Pixels] | None:
        mosaic = self.mosaics[patch.mosaic]
        try:
            return mosaic.read_image(patch.origin, self.size), mosaic.read_mask(patch.origin, self.size)
        except UserError as error:
            cause = error.__cause__
            damaged = isinstance(cause, ReadError) and cause.kind in ("damaged", "missing")
            if not self.skip_damaged or not damaged:
                raise
            warnings.warn(f"the patch at {patch.origin} of {mosaic.key} is left out: {error}", stacklevel=1)
            return None


class TileDataset(Dataset[Batch]):
    """Chosen tiles with their masks, for the cheap validation; item ``i`` is a whole batch.

    A rank without any has one batch without tiles: Lightning would let it skip the validation in which the others wait
    for it, and DDP's first forward pass after training is one in which all ranks have to take part.

    Args:
        mosaics: Mosaics with labels.
        size: Size of a tile in px.
        tiles: Mosaic and origin of each tile, and the part of it that counts, in px of the mosaic; the rest of
            its mask is set to ignore, so that no pixel counts twice.
        batch_size: Tiles in a batch.
        label: Name of the foreground.
        rank: Rank of this process, which takes each ``world``-th tile.
        world: Number of processes.
        flat: Whether tiles of volumes are single planes and become images.
    """

    sweep: Sweep | None = None

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
        self._size, self._batch_size, self._flat = size, batch_size, flat
        self._tiles = tuple(enumerate(tiles))[rank::world]

    def __len__(self) -> int:
        return max(1, -(-len(self._tiles) // self._batch_size))

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if not self._tiles:
            size = self._size[1:] if self._flat else self._size
            return {**_empty_batch(size), "mask": torch.zeros((0, *size), dtype=torch.uint8)}
        images, masks, positions = [], [], []
        for number, (mosaic, origin, counted) in self._tiles[index * self._batch_size :][: self._batch_size]:
            images.append(self.mosaics[mosaic].read_image(origin, self._size))
            mask = self.mosaics[mosaic].read_mask(origin, self._size)
            kept = np.full_like(mask, IGNORE)
            inside = tuple(slice(c.start - o, c.stop - o) for c, o in zip(counted, origin, strict=True))
            kept[inside] = mask[inside]
            masks.append(kept)
            positions.append((mosaic, origin, number))
        return make_batch(self.mosaics, images, masks, positions, self._flat)


class SweepDataset(Dataset[Batch]):
    """Groups of overlapping tiles that cover whole mosaics; item ``i`` is a whole batch without mask.

    A group is read as one strip and cut into its tiles, so overlapping pixels are decoded once. Where there are no
    worker processes, a thread reads the next group meanwhile. A sweep of nothing is one batch without tiles, because
    Lightning would let a rank with no batch at all skip the steps in which the others wait for it.

    Args:
        mosaics: Mosaics to predict.
        sweep: Plan of tiles and their order.
        label: Name of the foreground.
    """

    def __init__(self, mosaics: Sequence[MosaicView], sweep: Sweep, label: str) -> None:
        self.mosaics, self.label = tuple(mosaics), label
        self.sweep = sweep
        self._runs = [(span.mosaic, origins) for span in sweep.spans for origins in sweep.runs(span)]
        self._reader: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Batch]] | None = None

    def __len__(self) -> int:
        return max(1, len(self._runs))

    def __getitem__(self, index: int) -> Batch:
        if get_worker_info() is not None:
            return self._load(index)
        expected, self._next = self._next, None
        batch = expected[1].result() if expected is not None and expected[0] == index else self._load(index)
        if index + 1 < len(self):
            self._reader = self._reader or ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
            self._next = index + 1, self._reader.submit(self._load, index + 1)
        return batch

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_reader": None, "_next": None}

    def _load(self, index: int) -> Batch:
        if not self._runs:
            return _empty_batch(self.sweep.grids[0].tile)
        mosaic, origins = self._runs[index]
        *leading, width = self.sweep.grids[mosaic].tile
        first = origins[0][-1]
        strip = self.mosaics[mosaic].read_image(origins[0], (*leading, origins[-1][-1] + width - first))
        images = [strip[..., at - first : at - first + width] for *_, at in origins]
        return make_batch(self.mosaics, images, None, [(mosaic, origin, index) for origin in origins])


def spread_tiles(mosaics: Sequence[MosaicView], size: Shape, count: int | None, seed: int) -> list[Tile]:
    """Choose non-overlapping tiles for the cheap validation, fixed by the seed and equally many from each mosaic.

    Args:
        mosaics: Mosaics with labels.
        size: Size of a tile in px.
        count: Number of tiles over all mosaics, at least one each; ``None`` for all.
        seed: Random seed for choosing tiles.
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
