"""Writing the tiles of one source; it appears in the set when it is complete."""

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import zarr
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store.arrays import ArrayWriter, create_array, explain_failure
from data_modules.tile_set.layout import CHUNK, COLUMNS, SHARD, SIDE, Source


class SourceWriter:
    """Writes the tiles of a source from the first to the last.

    Args:
        folder: Of the tile set; made where it does not exist.
        source: What the tiles come from.
        number: Of tiles, at least one.

    Raises:
        UserError: if the set has tiles of a source of this name, or the disk is full.
        ValueError: if the name cannot be a folder, or ``number`` is not positive.

    Example:
        >>> with SourceWriter(path, source, 2) as writer:  # doctest: +SKIP
        ...     writer.write(tiles, positions)
    """

    def __init__(self, folder: Path, source: Source, number: int) -> None:
        if not source.name or "/" in source.name or source.name.startswith(".") or number < 1:
            raise ValueError(f"{number} tiles of a source called {source.name!r}")
        self.target = folder / "sources" / source.name
        if self.target.exists():
            raise UserError(
                f"{folder} has tiles of {source.name} already: choose another --out, or remove {self.target}"
            )
        self._part = self.target.with_name(f".{source.name}.partial")
        shutil.rmtree(self._part, ignore_errors=True)
        try:
            self._part.mkdir(parents=True)
            self._group = zarr.create_group(self._part, attributes={"emseg": {"tiles": source.to_attributes()}})
            shape = (number, SIDE, SIDE)
            tiles = create_array(self._part, "tiles", shape, np.uint8, compress=False, pieces=(CHUNK, SHARD))
        except OSError as error:
            raise UserError(explain_failure(error, str(self.target))) from error
        self._tiles = ArrayWriter(tiles)
        self._positions: list[NDArray[np.int32]] = []

    def write(self, tiles: NDArray[np.uint8], positions: NDArray[np.int32]) -> None:
        """Append tiles.

        Args:
            tiles: ``uint8 (n, 224, 224)``; what lies outside height and width is padding.
            positions: ``int32 (n, 6)``, :data:`~data_modules.tile_set.layout.COLUMNS`.

        Raises:
            ValueError: if shapes do not fit, or there are more tiles than announced.
            UserError: if the disk is full.
        """
        if positions.shape != (len(tiles), len(COLUMNS)):
            raise ValueError(f"{len(tiles)} tiles with positions {positions.shape}")
        self._tiles.write(tiles)
        self._positions.append(positions.astype(np.int32))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            shutil.rmtree(self._part, ignore_errors=True)
            return
        self._tiles.close()
        try:
            self._group.create_array("positions", data=np.concatenate(self._positions))
            self._part.rename(self.target)
        except OSError as error:
            raise UserError(explain_failure(error, str(self.target))) from error
