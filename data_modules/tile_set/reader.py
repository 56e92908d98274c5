"""Reading tile sets."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store.location import Location, locate
from data_modules.store.reader import ArrayRef, read
from data_modules.tile_set.layout import SIDE, Source


@dataclass(frozen=True)
class SourceTiles:
    """The tiles of one source; cheap to send to a worker.

    Attributes:
        source: What they come from.
        array: ``uint8 (N, 224, 224)``.
        folder: Of the source.
    """

    source: Source
    array: ArrayRef
    folder: str

    def __len__(self) -> int:
        return self.array.shape[0]

    @cached_property
    def positions(self) -> NDArray[np.int32]:
        """``int32 (N, 6)``, see :data:`~data_modules.tile_set.layout.COLUMNS`."""
        return np.asarray(zarr.open_array(Path(self.folder) / "positions", mode="r")[:], np.int32)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Neighbouring tiles ``uint8 (stop - start, 224, 224)``, padded where they are smaller.

        Raises:
            UserError: if a tile is damaged or missing, naming source and file.
        """
        pixels: NDArray[np.uint8] = read(self.array, (slice(start, stop), slice(0, SIDE), slice(0, SIDE)))
        return pixels

    def tile(self, index: int) -> NDArray[np.uint8]:
        """One tile ``uint8 (height, width)`` without padding.

        Raises:
            UserError: if it is damaged or missing.
        """
        height, width = self.positions[index, 4:6]
        return self.read(index, index + 1)[0, :height, :width]

    def batches(self, size: int = 1024) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """First index and padded tiles of one batch after the other; by default a file each."""
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))


class TileSet:
    """The sources of a set, in the order of their names.

    Args:
        path: Of the set.

    Raises:
        UserError: if there is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / "sources").is_dir():
            raise UserError(f"{path} is no tile set: make one with `emseg curate tile`")

    def sources(self) -> list[SourceTiles]:
        """All complete sources.

        Raises:
            UserError: if one cannot be opened, naming it.
        """
        folders = sorted(each for each in (self.path / "sources").iterdir() if not each.name.startswith("."))
        return [_open_source(locate(each)) for each in folders]

    def tables(self, *steps: str) -> list[Path]:
        """Tables of those of these steps of the curation (``dedup``, ``filter``) that were taken."""
        return [path for step in steps if (path := self.path / f"{step}.csv").is_file()]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources())


def _open_source(folder: Location) -> SourceTiles:
    try:
        source = Source.from_attributes(folder.metadata()["attributes"]["emseg"]["tiles"])
        array = folder.child("tiles")
        metadata = array.metadata()
        shape = tuple(metadata["shape"])
        if shape[1:] != (SIDE, SIDE) or metadata["data_type"] != "uint8":
            raise UserError(
                f"{folder} holds {metadata['data_type']} tiles {shape}: {SIDE} × {SIDE} px of uint8 are read"
            )
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder} is no source of a tile set: remove it, and run `emseg curate tile` again") from error
    complete = bool(metadata.get("attributes", {}).get("emseg", {}).get("every_chunk_written"))
    what = f"tiles of {source.name}"
    return SourceTiles(source, ArrayRef(str(array), what, shape, "uint8", complete, None, array.stamp()), str(folder))
