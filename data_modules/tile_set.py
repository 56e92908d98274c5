"""Sets of small tiles from many sources: layout, reader, writer, and the tables of curation.

Layout: ``<set>/sources/<source>/{tiles,positions}``, and one table a curation step beside ``sources``.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store.arrays import ArrayWriter, create_array, explain_write_failure
from data_modules.store.location import Location, locate
from data_modules.store.reader import ArrayRef, read

SIDE = 224
"""Side of a tile in px (Conrad and Narayan 2021)."""
PLANES = ("xy", "xz", "yz")
COLUMNS = ("plane", "section", "y", "x", "height", "width")
"""Of the array of positions: index into :data:`PLANES`, section along the axis that the plane lacks, first row and
column in the plane, and the part of the tile that holds pixels; all but the first in px of the source as tiled."""

FORMAT = 1
CHUNK = (1, SIDE, SIDE)
SHARD = (1024, SIDE, SIDE)
"""A tile is read alone; 1,024 of them make a file of 51 MB."""


@dataclass(frozen=True)
class Source:
    """One image or volume that tiles were cut from.

    Attributes:
        name: Name of its folder in the set, unique.
        file: File as the user named it, relative to what was searched.
        pixel_size_nm: Pixel size of the tiles along ``(Z, Y, X)`` or ``(Y, X)`` of the source; ``None`` where unknown.
        licence: Licence as the user stated it; empty where unknown.
        details: JSON-ready record of the format, the rule to 8 bit, downsampling, flags and counts.
    """

    name: str
    file: str
    pixel_size_nm: tuple[float, ...] | None = None
    licence: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_attributes(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of :meth:`from_attributes`."""
        size = None if self.pixel_size_nm is None else list(self.pixel_size_nm)
        named = {"name": self.name, "file": self.file, "licence": self.licence, "details": dict(self.details)}
        return {"format": FORMAT, "pixel_size_nm": size, **named}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "Source":
        """Read what :meth:`to_attributes` wrote."""
        size = attributes["pixel_size_nm"]
        return cls(
            name=str(attributes["name"]),
            file=str(attributes["file"]),
            pixel_size_nm=None if size is None else tuple(float(value) for value in size),
            licence=str(attributes["licence"]),
            details=attributes["details"],
        )


@dataclass(frozen=True)
class SourceTiles:
    """The tiles of one source; cheap to send to a worker.

    Attributes:
        source: Source of the tiles.
        array: ``uint8 (N, 224, 224)``.
        folder: Folder of the source.
    """

    source: Source
    array: ArrayRef
    folder: str

    def __len__(self) -> int:
        return self.array.shape[0]

    @property
    def key(self) -> str:
        """Name of the source, as messages call it."""
        return self.source.name

    def pixel_size_nm(self, tile: int) -> tuple[float, float]:
        """Height and width of a pixel of a tile; NaN where unknown."""
        size = self.source.pixel_size_nm
        if size is None:
            return float("nan"), float("nan")
        by_axis = dict(zip("zyx"[-len(size) :], size, strict=True))
        plane = PLANES[int(self.positions[tile, 0])]
        return by_axis[plane[1]], by_axis[plane[0]]

    @cached_property
    def positions(self) -> NDArray[np.int32]:
        """``int32 (N, 6)``, see :data:`~data_modules.tile_set.COLUMNS`."""
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
        path: Path of the set.

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

    def hash_table(self, step: str) -> str | None:
        """Hash the table of a step, ``None`` where there is none."""
        path = self.path / f"{step}.csv"
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

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


def read_kept(sources: Sequence[SourceTiles], tables: Sequence[str | os.PathLike[str]]) -> list[NDArray[np.bool_]]:
    """Find the tiles that every table kept, ``bool (N,)`` a source; all where there is no table.

    Args:
        sources: Sources of the set, in its order.
        tables: Tables of ``emseg curate``: columns ``source``, ``tile`` and ``kept``, 1 for kept; a row a tile.

    Raises:
        UserError: if a table cannot be read, or is of other tiles.
    """
    kept = [np.ones(len(source), np.bool_) for source in sources]
    for table in map(Path, tables):
        rows = 0
        for source, tile, row in read_rows(table, sources, "kept"):
            kept[source][tile] &= row["kept"] == "1"
            rows += 1
        if rows != sum(map(len, sources)):
            raise UserError(
                f"{table} has {rows} tiles, but the set has {sum(map(len, sources))}: it has changed since, make the "
                "table again"
            )
    return kept


def read_rows(path: Path, sources: Sequence[SourceTiles], column: str) -> Iterator[tuple[int, int, Mapping[str, str]]]:
    """Read the rows of a table, each with the numbers of its source in ``sources`` and of its tile.

    Args:
        path: Table with the columns ``source``, ``tile`` and ``column``.
        sources: Sources of the set, in its order.
        column: Name of the column to read.

    Raises:
        UserError: if the table cannot be read, lacks a column, or is of other tiles.
    """
    numbers = {source.key: number for number, source in enumerate(sources)}
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            lacking = {"source", "tile", column} - set(reader.fieldnames or ())
            if lacking:
                raise UserError(f"{path} has no column {', '.join(sorted(lacking))}: give a table of `emseg curate`")
            for row in reader:
                number = numbers.get(row["source"], -1)
                if number < 0 or not row["tile"].isdecimal() or int(row["tile"]) >= len(sources[number]):
                    raise UserError(
                        f"{path}: line {reader.line_num} is of tile {row['tile']} of {row['source']!r}, which the set "
                        "has not: give a table of this set"
                    )
                yield number, int(row["tile"]), row
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a table of tiles: {error}") from error


FIRST = ("source", "tile", "kept", "reason")


def write_decisions(
    folder: TileSet, step: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], record: Mapping[str, Any]
) -> Path:
    """Write ``<step>.csv``, and ``<step>.json`` with the settings and counts of the step; both whole or not at all.

    Args:
        folder: Tile set.
        step: Name of the step, such as ``dedup``.
        columns: Names of the columns after ``source, tile, kept, reason``.
        rows: Rows, one a tile, in the order of sources and tiles.
        record: JSON-ready settings and counts.

    Returns:
        Path of the table.
    """
    table = folder.path / f"{step}.csv"
    part = table.with_name(f".{table.name}.partial")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FIRST, *columns])
        writer.writerows(rows)
    part.replace(table)
    written = table.with_suffix(".json")
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(written)
    return table


def save_numbers(path: Path, **arrays: Any) -> None:
    """Keep numbers of a source's tiles beside the set, whole or not at all.

    Args:
        path: File ``<kind>/<source>.npz`` in the folder of the set; its folder is made.
        **arrays: Arrays by name, as :func:`numpy.savez` takes them.
    """
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{path.name}")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


class SourceWriter:
    """Writes the tiles of a source from the first to the last.

    Args:
        folder: Folder of the tile set; made where it does not exist.
        source: Source of the tiles.
        number: Number of tiles, at least one.

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
            raise UserError(explain_write_failure(error, str(self.target))) from error
        self._tiles = ArrayWriter(tiles)
        self._positions: list[NDArray[np.int32]] = []

    def write(self, tiles: NDArray[np.uint8], positions: NDArray[np.int32]) -> None:
        """Append tiles.

        Args:
            tiles: ``uint8 (n, 224, 224)``; what lies outside height and width is padding.
            positions: ``int32 (n, 6)``, :data:`~data_modules.tile_set.COLUMNS`.

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
            raise UserError(explain_write_failure(error, str(self.target))) from error


__all__ = ["COLUMNS", "PLANES", "SIDE", "Source", "SourceTiles", "SourceWriter", "TileSet", "read_kept", "read_rows"]
