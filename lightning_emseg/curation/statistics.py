"""Statistics of single tiles, kept beside the set."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from skimage.feature import canny, local_binary_pattern
from skimage.filters.rank import entropy, geometric_mean

from data_modules.tile_set import SourceTiles, TileSet, save_numbers

NAMES = ("local binary pattern std", "entropy std", "geometric mean median", "canny mean")
VERSION = "lbp 8, 8; entropy 7; geometric mean 11; canny 1"
"""Of the definition; statistics that were kept under another one are computed again."""

_ENTROPY_PX, _MEAN_PX = 7, 11


def statistics(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The statistics of Conrad and Narayan (2021); the paper names them, their published code has the parameters.

    Standard deviation of the local binary pattern (8 points at 8 px), standard deviation of the local entropy (7 × 7
    px, in bits), median of the geometric mean (11 × 11 px, in grey levels) and share of pixels on Canny's edges (σ 1
    px).

    Args:
        tile: ``uint8 (Y, X)``.

    Returns:
        ``float32 (4,)`` in the order of :data:`NAMES`.
    """
    pattern = local_binary_pattern(tile, 8, 8)
    spread = entropy(tile, np.ones((_ENTROPY_PX, _ENTROPY_PX), np.uint8))
    level = geometric_mean(tile, np.ones((_MEAN_PX, _MEAN_PX), np.uint8))
    return np.array([pattern.std(), spread.std(), np.median(level), canny(tile, sigma=1).mean()], np.float32)


WINDOW_PX = 15
"""Side of the neighbourhood whose grey values are compared."""


def uniform_share(tile: NDArray[np.uint8], std: float) -> float:
    """Share of pixels whose neighbourhood of 15 × 15 px varies by less than ``std``.

    Conrad and Narayan (2021) call a tile uninformative if 80 % or more of its area is of uniform intensity, and leave
    it to the eye what that is; this is our rule.

    Args:
        tile: ``uint8 (Y, X)``; mirrored beyond its edges.
        std: Standard deviation (ddof 0) in grey levels below which a neighbourhood is uniform.

    Returns:
        0–1.
    """
    grey = tile.astype(np.float64)
    mean = uniform_filter(grey, WINDOW_PX, mode="reflect")
    variance = uniform_filter(grey**2, WINDOW_PX, mode="reflect") - mean**2
    # Running sums leave rounding of 1e-10 behind; whole grey levels differ by far more.
    return float(np.mean(variance < std**2 - 1e-6))


Values = NDArray[np.float32]
Measure = Callable[[Sequence[NDArray[np.uint8]]], Values]
"""Makes ``float32 (n, width)`` of ``n`` tiles ``uint8 (height, width)``."""


@dataclass(frozen=True)
class TileValues:
    """A kind of numbers.

    Attributes:
        folder: Tile set.
        kind: Name of the folder in the set that keeps them.
        stamp: Name of the way in which they are made; kept numbers of another one are made again.
        width: Number of values a tile.
        measure: Function that makes them; they must be finite.
        batch: Number of tiles that are measured at once.
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
            source: Source of the set.
            wanted: ``bool (N,)``.
            progress: Callback with the number of wanted tiles that are done.

        Returns:
            ``float32 (N, width)``, NaN for tiles that were never wanted.

        Raises:
            UserError: if a tile is damaged or missing.
        """
        path = self.folder.path / self.kind / f"{source.key}.npz"
        values = self._known(path, source)
        missing = wanted & np.isnan(values[:, 0])
        progress(int(np.count_nonzero(wanted & ~missing)))
        if not missing.any():
            return values
        stamps = {"stamp": np.array(self.stamp), "tiles": np.array(source.array.stamp)}
        saved = time.monotonic()
        for start, tiles in _read_ahead(source, missing, self.batch):
            places = start + np.flatnonzero(missing[start : start + self.batch])
            sizes = source.positions[places, 4:6].tolist()
            chosen = [tiles[at - start, :height, :width] for at, (height, width) in zip(places, sizes, strict=True)]
            values[places] = self.measure(chosen)
            progress(len(places))
            if time.monotonic() - saved >= self.save_every_s:
                save_numbers(path, values=values, **stamps)
                saved = time.monotonic()
        save_numbers(path, values=values, **stamps)
        return values

    def _known(self, path: Path, source: SourceTiles) -> Values:
        nothing = np.full((len(source), self.width), np.nan, np.float32)
        if not path.is_file():
            return nothing
        with np.load(path) as stored:
            values: Values = stored["values"]
            same = [str(stored["stamp"]), str(stored["tiles"])] == [self.stamp, source.array.stamp]
        return values if same and values.shape == nothing.shape else nothing


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
