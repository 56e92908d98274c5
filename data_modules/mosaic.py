"""Generic data module of mosaic stores, and checks of its settings against a store."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from data_modules.augment.transforms import KeyedAugment
from data_modules.batch import IGNORE, Batch
from data_modules.errors import UserError, check_fractions, check_positive
from data_modules.geometry import Grid, Shape, Sweep, is_isotropic, rows_left, share_rows
from data_modules.patches.dataset import PatchDataset, SweepDataset, Tile, TileDataset, spread_tiles
from data_modules.patches.loaders import EpochSampler, ResumableLoader, RunShare, SomeEpochs, make_loader, require_setup
from data_modules.patches.sampling import FixedPatches, PatchSampling, RandomPatches, masks_of
from data_modules.patches.splits import DividedMosaics, MosaicSplit, Split
from data_modules.store import MosaicStore, MosaicView, Rows, shard_rows

Planes = Literal["xy", "orthogonal"]
"""Planes of volumes: xy alone, or xy, xz and yz of volumes with isotropic voxels, and xy of others."""

_LOOK_PX = 2**22
"""Pixels that are read at once while foreground is looked for; few, as it mostly is in the first of them."""
_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Axes of a volume, that across the planes first: xy, xz, yz."""


def plane_views(mosaics: Sequence[MosaicView], planes: Planes) -> list[MosaicView]:
    """View mosaics as stacks of planes along the first axis: a volume gives one or three, an image one of one plane.

    Args:
        mosaics: Mosaics of two or three axes.
        planes: Planes of volumes.
    """
    views = []
    for mosaic in mosaics:
        if len(mosaic.shape) == 2:
            views.append(mosaic.as_plane())
        elif planes == "orthogonal" and is_isotropic(mosaic.pixel_size_nm):
            views += [mosaic, *(mosaic.along(*order) for order in _ORDERS[1:])]
        else:
            views.append(mosaic)
    return views


def sides(size: int | list[int], ndim: int, name: str) -> Shape:
    """Expand a size in px to one value an axis.

    Raises:
        UserError: if there are more or fewer, or one for a volume.
    """
    if isinstance(size, int):
        if ndim != 2:
            raise UserError(
                f"data.{name} {size}: mosaics of {ndim} axes need one value an axis, e.g. [8, 256, 256]; for a network "
                "of images, pass --data.planes xy or orthogonal"
            )
        return (size,) * ndim
    if len(size) != ndim:
        raise UserError(f"data.{name} {size} has {len(size)} values, but the mosaics have {ndim} axes")
    return tuple(size)


def plane_sides(size: int | list[int], name: str) -> Shape:
    """Expand a size in px to the shape of one plane of a volume.

    Raises:
        UserError: if there are neither one nor two values.
    """
    if not isinstance(size, int) and len(size) != 2:
        raise UserError(f"data.{name} {size}: planes have two sides, so give one value for both, or two")
    return (1, *sides(size, 2, name))


def check_augmentation(augment: KeyedAugment | None, axes: int) -> None:
    """Refuse an augmentation of patches of another number of axes."""
    if augment is None or augment.axes == axes:
        return
    kind = f"{type(augment).__module__}.{type(augment).__name__}"
    if axes == 3:
        raise UserError(
            f"data.augment {kind} works on 2D patches, not on volumes: pass VolumeAugment, "
            "leave it out, or pass --data.planes xy"
        )
    raise UserError(
        f"data.augment {kind} works on volumes, not on 2D patches: pass Augment, leave it out, "
        "or train on volumes, without data.planes"
    )


def check_sizes(mosaics: Sequence[MosaicView], size: Shape, allowed: bool) -> None:
    """Refuse mosaics smaller than a training patch, unless ``allowed``."""
    small = [m for m in mosaics if any(side < extent for side, extent in zip(m.shape, size, strict=True))]
    if small and not allowed:
        listed = ", ".join(f"{mosaic.key} {mosaic.shape}" for mosaic in small[:5])
        thin = min((mosaic.shape[0] for mosaic in small if len(size) == 3), default=size[0])
        depth = f" (of {size[0]} sections, but one of them has a depth of {thin})" if thin < size[0] else ""
        raise UserError(
            f"{len(small)} training mosaics are smaller than a patch of {size} px{depth}: {listed}. "
            "Lower data.patch_size, or pass --data.allow_small true to train on mirrored padding"
        )


def check_foreground(mosaics: Sequence[MosaicView], allowed: bool) -> None:
    """Refuse training masks without any foreground, unless ``allowed``.

    The counts that conversion recorded are used; labels of foreign stores, which have none, are not read for this.
    Windows, whose mosaics may have foreground elsewhere, are read from their beginning up to the first of it.
    """
    empty = []
    for mosaic in () if allowed else mosaics:
        if mosaic.mask is None or mosaic.mask.info is None or not mosaic.mask.info.counts:
            continue
        counts = mosaic.mask.info.counts
        if sum(counts.get(value, 0) for value in mosaic.foreground):
            is_whole = math.prod(mosaic.shape) == math.prod(mosaic.mask.shape)
            if is_whole or any(((mask != 0) & (mask != IGNORE)).any() for _, mask in masks_of(mosaic, _LOOK_PX)):
                continue
        empty.append(mosaic.key)
    if empty:
        raise UserError(
            f"no foreground at all in the masks of {', '.join(empty[:5])}: check --foreground dark|bright of the "
            "conversion, or pass --data.allow_empty true if these mosaics are meant to have none"
        )


class Mosaic(RunShare, pl.LightningDataModule):
    """Data module of a mosaic store: patches for training, tiles and sweeps for evaluation.

    Args:
        store: Path of the store (`emseg data convert` makes one), or its URL (s3, gs, http or https).
        label: Name of the label to learn and to score.
        foreground: Classes that count as foreground, by name or value, for labels of kind ``classes``.
        classes: All classes of such a label, the background first, to tell them apart instead; ``model.classes`` takes
            the same list.
        planes: Planes in which networks of images see volumes: ``xy``, or ``orthogonal`` (xy, xz and yz) for volumes
            whose Z is less than 20 % off X and Y. Patches are then of two axes; stores may hold images and volumes.
        patch_size: Side of a training patch in px, or one value an axis.
        batch_size: Patches per step and process.
        patches_per_epoch: Patches over all processes; a grid sampling and the patch split know their own number.
        sampling: Placement of training patches.
        split: Division of annotated mosaics into training and validation.
        augment: Augmentation on the device, of images or planes or of volumes, or none.
        test_split: Split of the store for ``test``.
        predict_split: Split for ``predict``; labels are not needed.
        tile_size: Side of an evaluation tile; the patch size by default.
        overlap: Fraction that neighbouring evaluation tiles share, below 1.
        eval_batch_size: Tiles per forward pass; the batch size by default.
        val_tiles: Non-overlapping tiles of the cheap validation after every epoch; ``null`` for all.
        on_damage: Whether training stops at a damaged or missing chunk, or leaves out its patches with a warning;
            scores always stop.
        full_validation_every: Epochs between whole-mosaic validations within ``fit`` (and after the last one);
            0 for never.
        num_workers: Loader processes; they are started with ``forkserver``.
        allow_small: Whether mosaics smaller than a patch are padded in training instead of refused.
        allow_empty: Whether training masks without foreground are accepted.
        seed: Random seed for patch sampling and augmentation; the run's ``seed_everything`` by default.
    """

    def __init__(
        self,
        store: str,
        label: str = "membrane",
        foreground: list[str | int] | None = None,
        classes: list[str] | None = None,
        planes: Planes | None = None,
        patch_size: int | list[int] = 1024,
        batch_size: int = 4,
        patches_per_epoch: int = 2000,
        sampling: PatchSampling | None = None,
        split: Split | None = None,
        augment: KeyedAugment | None = None,
        test_split: str = "test",
        predict_split: str = "test",
        tile_size: int | list[int] | None = None,
        overlap: float = 0.5,
        eval_batch_size: int | None = None,
        val_tiles: int | None = 64,
        full_validation_every: int = 10,
        on_damage: Literal["stop", "skip"] = "stop",
        num_workers: int = 0,
        allow_small: bool = False,
        allow_empty: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        # A rank may have no mosaic rows to sweep; Lightning then must not refuse its empty loader.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        check_fractions(overlap=overlap)
        check_positive(batch_size=batch_size, patches_per_epoch=patches_per_epoch, patch_size=patch_size)
        check_positive(tile_size=tile_size, eval_batch_size=eval_batch_size, val_tiles=val_tiles)
        if foreground and classes:
            raise UserError(
                "data.foreground makes one foreground of classes, data.classes tells them apart: pass one of them"
            )
        if classes is not None and not 2 <= len(classes) < 255:
            raise UserError(f"data.classes must name the background and 1 to 253 more classes, got {list(classes)}")
        self.store_path = store
        self.label, self.foreground, self.classes = label, foreground or [], classes or []
        self.planes = planes
        self._patch_size, self._tile_size = patch_size, tile_size or patch_size
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.patches_per_epoch, self.sampling = patches_per_epoch, sampling or RandomPatches()
        self.split, self.augment = split or MosaicSplit(), augment
        self.test_split, self.predict_split = test_split, predict_split
        self.overlap, self.val_tiles, self.full_validation_every = overlap, val_tiles, full_validation_every
        self.on_damage = on_damage
        self.num_workers, self.allow_small, self.allow_empty = num_workers, allow_small, allow_empty
        self._seed = seed
        self.finished: Callable[[SweepDataset], Sequence[Sequence[Rows]]] | None = None
        """Callback that returns the rows already on disk, so that a resumed prediction skips them."""
        self._division: DividedMosaics | None = None

    def setup(self, stage: str) -> None:
        """Open the store and check everything that ``stage`` will need.

        Raises:
            UserError: for whatever would fail later: missing or empty splits, missing labels, mosaics smaller
                than a patch, masks without foreground.
        """
        if stage in ("fit", "validate"):
            samples = MosaicStore(self.store_path).samples()
            if not samples:
                raise UserError(f"store {self.store_path} holds no samples: convert images into it")
            size = self.patch_shape(len(samples[0].image.shape))
            if self.planes is not None and self.split.chooses_patches:
                raise UserError("data.planes: choose another data.split, as this one knows no planes of volumes")
            division = self.split.divide(self._labelled, size, self.seed, training=stage == "fit")
            if self.planes is not None:
                division = replace(division, train=plane_views(division.train, self.planes))
            if stage == "fit":
                check_augmentation(self.augment, len(size) if self.planes is None else 2)
                check_sizes(division.train, size, self.allow_small)
                check_foreground(division.train, self.allow_empty)
            self._division = division
        elif stage == "test":
            self._labelled(self.test_split)
        else:
            MosaicStore(self.store_path).samples(self.predict_split)

    def patch_shape(self, ndim: int) -> Shape:
        """Shape of a training patch for mosaics of ``ndim`` axes; one plane of a volume where planes are trained on."""
        if self.planes is not None:
            return plane_sides(self._patch_size, "patch_size")
        return sides(self._patch_size, ndim, "patch_size")

    def tile_shape(self, mosaic: MosaicView) -> Shape:
        """Shape of an evaluation tile of ``mosaic``.

        Isotropic volumes are predicted in cubes where all planes are wanted, whose planes are then as large in every
        direction, and in single planes else.

        Raises:
            UserError: if ``tile_size`` does not suit the mosaic's axes.
        """
        if self.planes is None or len(mosaic.shape) == 2:
            return sides(self._tile_size, len(mosaic.shape), "tile_size")
        plane = plane_sides(self._tile_size, "tile_size")
        if self.planes == "xy" or not is_isotropic(mosaic.pixel_size_nm):
            return plane
        _, height, width = plane
        if height != width:
            raise UserError(f"data.tile_size {self._tile_size}: planes in three directions need one side for all")
        return (width, height, width)

    def train_dataloader(self) -> DataLoader[Batch]:
        """This rank's share of the epoch's patches."""
        division = require_setup(self._division)
        size = self.patch_shape(len(division.train[0].shape))
        sampling = self.sampling if division.train_patches is None else FixedPatches(division.train_patches)
        rank, world = self.rank_and_world
        count, batch = self.patches_per_epoch, self.batch_size
        sampler = EpochSampler(sampling, division.train, size, count, batch, self.seed, rank, world)
        skip = self.on_damage == "skip"
        dataset = PatchDataset(division.train, size, flat=self.planes is not None, skip_damaged=skip)
        return make_loader(dataset, self.num_workers, self.batch_size, sampler, ResumableLoader)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """In ``fit`` the cheap tiles and, in chosen epochs, the sweep over whole mosaics; in ``validate`` the sweep."""
        division = require_setup(self._division)
        mosaics = division.val
        if division.val_patches is not None:
            size = self.patch_shape(len(mosaics[0].shape))
            tiles: list[Tile] = [
                (mosaic, origin, tuple(slice(at, at + side) for at, side in zip(origin, size, strict=True)))
                for mosaic, origin in division.val_patches
            ]
        elif self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return [make_loader(self._sweep_dataset(mosaics), self.num_workers)]
        else:
            if self.planes is not None:
                mosaics = plane_views(mosaics, self.planes)
                size = plane_sides(self._tile_size, "tile_size")
            else:
                size = self.tile_shape(mosaics[0])
            tiles = spread_tiles(mosaics, size, self.val_tiles, self.seed)
        flat = self.planes is not None
        chosen = TileDataset(mosaics, size, tiles, self.eval_batch_size, self.label, *self.rank_and_world, flat=flat)
        loaders = [make_loader(chosen, self.num_workers)]
        if self.trainer is not None and self.full_validation_every and division.val_patches is None:
            dataset = self._sweep_dataset(division.val)
            sampler = SomeEpochs(len(dataset), self.full_validation_every, (self.trainer.max_epochs or 0) - 1)
            loaders.append(make_loader(dataset, self.num_workers, sampler=sampler))
        return loaders

    def test_dataloader(self) -> DataLoader[Batch]:
        """The sweep over the whole mosaics of the test split."""
        return make_loader(self._sweep_dataset(self._labelled(self.test_split)), self.num_workers)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The sweep over the whole mosaics of the split to be predicted."""
        samples = MosaicStore(self.store_path).samples(self.predict_split)
        mosaics = [MosaicView.of(sample, None) for sample in samples]
        dataset = self._sweep_dataset(mosaics)
        if self.finished is not None:
            left = rows_left(dataset.sweep.spans, self.finished(dataset))
            dataset = SweepDataset(mosaics, replace(dataset.sweep, spans=tuple(left)), self.label)
        return make_loader(dataset, self.num_workers)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, but not the origins of its patches: to read them back would wait for the device."""
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {**moved, "origin": batch["origin"], "mosaic": batch["mosaic"]}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches, on the device."""
        if self.augment is None or self.trainer is None or not self.trainer.training:
            return batch
        return self.augment(batch, self.seed, self.trainer.current_epoch)

    def _labelled(self, split: str) -> list[MosaicView]:
        samples = MosaicStore(self.store_path).samples(split)
        return [MosaicView.of(sample, self.label, self.foreground, self.classes) for sample in samples]

    def _sweep_dataset(self, mosaics: Sequence[MosaicView]) -> SweepDataset:
        rank, world = self.rank_and_world
        grids = [Grid(mosaic.shape, self.tile_shape(mosaic), self.overlap) for mosaic in mosaics]
        shapes = [mosaic.shape for mosaic in mosaics]
        spans = share_rows(shapes, [shard_rows(shape) for shape in shapes], rank, world)
        return SweepDataset(mosaics, Sweep(tuple(grids), tuple(spans), self.eval_batch_size), self.label)
