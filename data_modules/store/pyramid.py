"""The lower levels of an image or label group."""

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from data_modules.store import layout
from data_modules.store.arrays import ArrayWriter, Band, create_array


def write_levels(group: Path, shape: tuple[int, ...], label: bool) -> None:
    """Halve level after level, a row of shards at a time, so that memory does not grow with the height.

    Args:
        group: Holds full resolution as ``0``; levels that are there already are replaced.
        shape: Of full resolution, in px.
        label: Whether pixels are halved by nearest neighbour instead of local means.
    """
    for level, level_shape in enumerate(layout.level_shapes(shape)[1:], start=1):
        finer = zarr.open_array(group / str(level - 1), mode="r")
        coarser = create_array(group, str(level), level_shape, finer.dtype, compress=label)
        writer = ArrayWriter(coarser)
        halved = 2 if len(shape) == 2 else 1
        assert coarser.shards is not None
        for start in range(0, level_shape[0], coarser.shards[0]):
            stop = min(start + coarser.shards[0], level_shape[0])
            rows = np.asarray(finer[start * halved : stop * halved])
            writer.write(halve_nearest(rows) if label else halve_mean(rows))
        writer.close()


def halve_nearest(rows: Band) -> Band:
    """Every second pixel along Y and X of ``(…, Y, X)``."""
    return np.ascontiguousarray(rows[..., ::2, ::2])


def halve_mean(rows: Band) -> NDArray[np.uint8]:
    """Mean of 2 × 2 pixels, rounded, of ``uint8 (…, Y, X)``; an odd last row or column is repeated."""
    pad = [(0, 0)] * (rows.ndim - 2) + [(0, rows.shape[-2] % 2), (0, rows.shape[-1] % 2)]
    even = np.pad(rows, pad, mode="edge").astype(np.uint16)
    total = even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)
