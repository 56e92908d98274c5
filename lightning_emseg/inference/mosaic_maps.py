"""Whole maps of predictions that several processes fill together, for what needs a mosaic at once."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from data_modules.grid import Shape


class MosaicMaps:
    """Maps in files that all ranks see, so that none of them holds a mosaic in memory.

    A map holds one number a pixel: the quantised probability of a foreground, or the position of a class.

    Args:
        folder: For the files; removed and made anew by :meth:`create`.
        shapes: Of the mosaics, in px.
    """

    def __init__(self, folder: Path, shapes: Sequence[Shape]) -> None:
        self._folder, self._shapes = folder, shapes
        self._open: dict[int, NDArray[np.uint8]] = {}

    def create(self) -> None:
        """Make empty files; one process does, before any other writes."""
        self.remove()
        self._folder.mkdir(parents=True)
        for mosaic, shape in enumerate(self._shapes):
            open_memmap(self._path(mosaic), mode="w+", dtype=np.uint8, shape=tuple(shape))

    def write(self, mosaic: int, start: int, rows: Tensor) -> None:
        """Write finished rows, each of which is written by one process.

        Args:
            mosaic: Position of the mosaic.
            start: First row.
            rows: ``uint8 (rows, …)`` over the mosaic's full width.
        """
        if mosaic not in self._open:
            self._open[mosaic] = open_memmap(self._path(mosaic), mode="r+")
        self._open[mosaic][start : start + len(rows)] = rows.cpu().numpy()

    def flush(self) -> None:
        """Hand what was written to the file system; for all processes, before any of them reads."""
        # Closed, as network file systems show other machines what was closed.
        for values in self._open.values():
            assert isinstance(values, np.memmap)
            values.flush()
        self._open.clear()

    def read(self, mosaic: int) -> NDArray[np.uint8]:
        """The map of one mosaic, ``uint8`` as it was written; read from disk where it is looked at."""
        return open_memmap(self._path(mosaic), mode="r")

    def remove(self) -> None:
        """Delete the files."""
        self._open.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, mosaic: int) -> Path:
        return self._folder / f"{mosaic}.npy"
