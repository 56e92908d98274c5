"""Single tiles for pretraining: the dataset, and the order of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from data_modules.batch import Batch, TileBatch
from data_modules.geometry import Shape
from data_modules.patches.loaders import Patch
from data_modules.patches.sampling import PatchSampling, Position
from data_modules.store import MosaicView
from data_modules.tile_choice import Labels, TileNumbers
from data_modules.tile_set import PLANES, SIDE, SourceTiles


@dataclass(frozen=True)
class NamedSource:
    """A source under the name by which messages call it.

    Attributes:
        key: Name of the source.
        tiles: Its tiles.
    """

    key: str
    tiles: SourceTiles

    def pixel_size_nm(self, tile: int) -> tuple[float, float]:
        """Height and width of a pixel of a tile; NaN where unknown."""
        size = self.tiles.source.pixel_size_nm
        if size is None:
            return float("nan"), float("nan")
        by_axis = dict(zip("zyx"[-len(size) :], size, strict=True))
        plane = PLANES[int(self.tiles.positions[tile, 0])]
        return by_axis[plane[1]], by_axis[plane[0]]


class TileImages(Dataset[Batch]):
    """Tiles of a set, read when they are asked for.

    Args:
        sources: Of the set, in its order.
        labels: Of every tile.
    """

    def __init__(self, sources: Sequence[SourceTiles], labels: Labels) -> None:
        self.mosaics = tuple(NamedSource(source.source.name, source) for source in sources)
        self.labels = labels

    def __getitems__(self, patches: Sequence[Patch]) -> TileBatch:
        """Read one whole batch.

        Raises:
            UserError: if a tile is damaged or missing, naming source and file.
        """
        places = [(patch.mosaic, patch.origin[0]) for patch in patches]
        tiles = [self.mosaics[source].tiles.tile(tile) for source, tile in places]
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
        tiles: Those that are trained on.
    """

    def __init__(self, tiles: TileNumbers) -> None:
        self.tiles = tiles

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`; mosaics and size are not looked at."""
        order = random.permutation(len(self.tiles))[:count]
        return [(source, (tile,)) for source, tile in self.tiles[order].tolist()]
