"""Numbers of every tile, kept beside the set, so that an interrupted run goes on where it stopped."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.tile_set import SourceTiles, TileSet

Values = NDArray[np.float32]
Measure = Callable[[Sequence[NDArray[np.uint8]]], Values]
"""Makes ``float32 (n, width)`` of ``n`` tiles ``uint8 (height, width)``."""


@dataclass(frozen=True)
class TileValues:
    """A kind of numbers.

    Attributes:
        folder: Of the tile set.
        kind: Name of the folder in the set that keeps them.
        stamp: Of the way in which they are made; kept numbers of another one are made again.
        width: How many there are a tile.
        measure: Makes them; they must be finite.
        batch: Tiles that are measured at once.
        save_every_s: Least seconds between two savings; an interruption loses what came after the last one.
    """

    folder: TileSet
    kind: str
    stamp: str
    width: int
    measure: Measure
    batch: int = 1024
    save_every_s: float = 30.0

    def of(
        self, source: SourceTiles, wanted: NDArray[np.bool_], progress: Callable[[int], object] = lambda tiles: None
    ) -> Values:
        """Numbers of a source's tiles, those that are known already included.

        Args:
            source: Of the set.
            wanted: ``bool (N,)``.
            progress: Told how many wanted tiles are done.

        Returns:
            ``float32 (N, width)``, NaN for tiles that were never wanted.

        Raises:
            UserError: if a tile is damaged or missing.
        """
        path = self.folder.path / self.kind / f"{source.source.name}.npz"
        values = self._known(path, source)
        missing = wanted & np.isnan(values[:, 0])
        progress(int(np.count_nonzero(wanted & ~missing)))
        if not missing.any():
            return values
        saved = time.monotonic()
        for start, tiles in _read_ahead(source, missing, self.batch):
            places = start + np.flatnonzero(missing[start : start + self.batch])
            sizes = source.positions[places, 4:6].tolist()
            chosen = [tiles[at - start, :height, :width] for at, (height, width) in zip(places, sizes, strict=True)]
            values[places] = self.measure(chosen)
            progress(len(places))
            if time.monotonic() - saved >= self.save_every_s:
                self._save(path, source, values)
                saved = time.monotonic()
        self._save(path, source, values)
        return values

    def _known(self, path: Path, source: SourceTiles) -> Values:
        nothing = np.full((len(source), self.width), np.nan, np.float32)
        if not path.is_file():
            return nothing
        with np.load(path) as stored:
            values: Values = stored["values"]
            same = [str(stored["stamp"]), str(stored["tiles"])] == [self.stamp, source.array.stamp]
        return values if same and values.shape == nothing.shape else nothing

    def _save(self, path: Path, source: SourceTiles, values: Values) -> None:
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}")
        with part.open("wb") as file:
            np.savez(file, values=values, stamp=np.array(self.stamp), tiles=np.array(source.array.stamp))
        part.replace(path)


def _read_ahead(source: SourceTiles, missing: NDArray[np.bool_], batch: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Batches with a missing tile; a thread reads the next one while one is worked on."""
    starts = [start for start in range(0, len(source), batch) if missing[start : start + batch].any()]
    with ThreadPoolExecutor(1) as reader:
        coming = None
        for start, following in zip(starts, [*starts[1:], None], strict=True):
            tiles = (coming or reader.submit(source.read, start, min(start + batch, len(source)))).result()
            if following is not None:
                coming = reader.submit(source.read, following, min(following + batch, len(source)))
            yield start, tiles
