"""Division of annotated mosaics into training and validation; picked by ``class_path`` under ``data.split``."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data_modules.errors import UserError
from data_modules.geometry import Grid, Shape
from data_modules.patches.sampling import Position, RandomPatches
from data_modules.randomness import Purpose, stream
from data_modules.store import MosaicView

Views = Callable[[str], list[MosaicView]]
"""Function from a split of the store to its mosaics, with their labels."""


@dataclass(frozen=True)
class DividedMosaics:
    """Training and validation data.

    Attributes:
        train: Mosaics, or windows of mosaics, that training patches come from.
        val: Mosaics that are validated whole.
        train_patches: Fixed training patches, in place of a sampling.
        val_patches: Fixed validation patches, in place of whole mosaics.
    """

    train: Sequence[MosaicView]
    val: Sequence[MosaicView]
    train_patches: Sequence[Position] | None = None
    val_patches: Sequence[Position] | None = None


class Split(ABC):
    """Division of annotated mosaics.

    Attributes:
        chooses_patches: Whether single patches are divided, and not mosaics.
    """

    chooses_patches: ClassVar[bool] = False

    @abstractmethod
    def divide(self, views: Views, size: Shape, seed: int, training: bool = True) -> DividedMosaics:
        """Divide the mosaics.

        Args:
            views: Function from a split of the store to its mosaics.
            size: Size of a patch in px.
            seed: Random seed of the run.
            training: Whether training data is needed too; a store to validate on may have none.
        """


class MosaicSplit(Split):
    """Whole mosaics, as the store has them; the default, and the only one without leakage between neighbours.

    Args:
        train: Split of the store to train on.
        val: Split of the store to validate on.
    """

    def __init__(self, train: str = "train", val: str = "val") -> None:
        self.train, self.val = train, val

    def divide(self, views: Views, size: Shape, seed: int, training: bool = True) -> DividedMosaics:
        """See :meth:`Split.divide`."""
        return DividedMosaics(views(self.train) if training else (), views(self.val))


class RegionSplit(Split):
    """The end of every mosaic validates, a gap keeps training patches from seeing it; for few, large mosaics.

    Args:
        source: Split of the store.
        val_fraction: Share of the last axis (X) that validates.
        gap_px: Pixels between the two parts that are used by neither; one patch by default.
    """

    def __init__(self, source: str = "train", val_fraction: float = 0.2, gap_px: int | None = None) -> None:
        if not 0 < val_fraction < 1:
            raise UserError(f"RegionSplit: val_fraction must lie between 0 and 1, got {val_fraction}")
        if gap_px is not None and gap_px < 0:
            raise UserError(f"RegionSplit: gap_px must be at least 0, got {gap_px}")
        self.source, self.val_fraction, self.gap_px = source, val_fraction, gap_px

    def divide(self, views: Views, size: Shape, seed: int, training: bool = True) -> DividedMosaics:
        """See :meth:`Split.divide`.

        Raises:
            UserError: if nothing is left to train on.
        """
        gap = size[-1] if self.gap_px is None else self.gap_px
        train, val = [], []
        for mosaic in views(self.source):
            *leading, width = mosaic.shape
            cut = width - round(width * self.val_fraction)
            if cut - gap < 1 or cut >= width:
                raise UserError(
                    f"{mosaic.key}: {width} px leave no room for a gap of {gap} px and {self.val_fraction:.0%}"
                )
            zeros = (0,) * len(leading)
            train.append(mosaic.window((*zeros, 0), (*leading, cut - gap)))
            val.append(mosaic.window((*zeros, cut), (*leading, width)))
        return DividedMosaics(train, val)


class SectionSplit(Split):
    """The first sections of every volume train, the next ones validate; CleftNet's 100 and 25 of CREMI's 125.

    Nothing lies between the two, as in the paper (Liu and Ji 2021, sec. IV-B): the last section that trains is the
    neighbour of the first one that validates.

    Args:
        source: Split of the store.
        train: Number of sections that train or, below 1, their share of a volume's depth, rounded down; ``null`` for
            all but those that validate.
        val: Number or share of the sections that validate, which follow; ``null`` for all that are left.

    Raises:
        UserError: for a value out of its range, or if both are ``null``.
    """

    def __init__(self, source: str = "train", train: int | float | None = 100, val: int | float | None = 25) -> None:
        for name, part in (("train", train), ("val", val)):
            if part is not None and not 0 < part < 1 and not (part >= 1 and part == int(part)):
                raise UserError(
                    f"SectionSplit: {name} must be a whole number of sections or a share between 0 and 1, got {part}"
                )
        if train is None and val is None:
            raise UserError("SectionSplit: train and val are both null: give one of them")
        self.source, self.train, self.val = source, train, val

    def divide(self, views: Views, size: Shape, seed: int, training: bool = True) -> DividedMosaics:
        """See :meth:`Split.divide`.

        Raises:
            UserError: if there are images, or volumes with too few sections.
        """
        volumes = views(self.source)
        if images := [image.key for image in volumes if len(image.shape) != 3]:
            raise UserError(f"SectionSplit divides volumes, but {_first(images)} are images: choose another data.split")
        train_parts, val_parts, shallow = [], [], []
        for volume in volumes:
            depth, *plane = volume.shape
            train, val = (
                None if part is None else math.floor(part * depth + 1e-9) if part < 1 else int(part)
                for part in (self.train, self.val)
            )
            train = depth - (val or 0) if train is None else train
            val = depth - train if val is None else val
            if min(train, val) < 1 or train + val > depth:
                shallow.append(f"{volume.key} ({depth})")
                continue
            train_parts.append(volume.window((0, 0, 0), (train, *plane)))
            val_parts.append(volume.window((train, 0, 0), (train + val, *plane)))
        if shallow:
            raise UserError(
                f"SectionSplit: {_first(shallow)} have too few sections for train {self.train} and val {self.val}: "
                "pass other numbers, or shares of the depth, e.g. --data.split SectionSplit --data.split.train 0.8 "
                "--data.split.val 0.2"
            )
        return DividedMosaics(train_parts, val_parts)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class PatchSplit(Split):
    """The paper's leaking assignment: overlapping patches of one mosaic fall on both sides, at random.

    U-RISC (Shi et al. 2022) assigns 50,000 patches to training and 20,000 to validation. Scores on these
    validation patches are optimistic; the split exists to show by how much.

    Args:
        source: Split of the store.
        train: Number of training patches.
        val: Number of validation patches.
        overlap: Overlap in the grid of the first patches (the published code's 512 px step); others lie at random.
    """

    chooses_patches = True

    def __init__(self, source: str = "train", train: int = 50_000, val: int = 20_000, overlap: float = 0.5) -> None:
        self.source, self.train, self.val, self.overlap = source, train, val, overlap

    def divide(self, views: Views, size: Shape, seed: int, training: bool = True) -> DividedMosaics:
        """See :meth:`Split.divide`."""
        mosaics = views(self.source)
        random = stream(seed, Purpose.SPLIT)
        tiles: list[Position] = [
            (index, origin) for index, mosaic in enumerate(mosaics) for origin in Grid(mosaic.shape, size, self.overlap)
        ]
        wanted = self.train + self.val
        tiles += RandomPatches().positions(mosaics, size, max(0, wanted - len(tiles)), random)
        order = random.permutation(len(tiles))
        chosen = [tiles[position] for position in order[:wanted]]
        return DividedMosaics(mosaics, mosaics, chosen[: self.train], chosen[self.train :])
