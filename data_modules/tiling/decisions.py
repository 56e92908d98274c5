"""The table of every file that was met, with what became of it and why."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from data_modules.tile_set import Source

Status = Literal["tiled", "known", "refused", "ignored"]


@dataclass(frozen=True)
class Decision:
    """One row.

    Attributes:
        file: As in :class:`~data_modules.tiling.sources.Entry`.
        source: Name in the set; empty where nothing was tiled.
        status: ``tiled`` in this run, ``known`` from an earlier one, ``refused``, or ``ignored`` for its name.
        reason: Why it was refused, or why these planes.
        format: Of the file.
        shape: ``Z × Y × X`` of the file in px.
        dtype: Of the file.
        pixel_size_nm: Of the tiles, Z × Y × X or Y × X.
        planes: That tiles were cut from.
        tiles: Number.
        dropped: Number of remainders below 112 px.
        rule: To 8 bit.
        inverted: ``yes``, ``no`` or ``unclear``.
        polarity: Score of :func:`~data_modules.tiling.polarity.polarity`.
        downsampled_by: Factors along Z × Y × X.
        licence: As the user stated it.
        remarks: What is odd about the file.
    """

    file: str
    source: str
    status: Status
    reason: str = ""
    format: str = ""
    shape: str = ""
    dtype: str = ""
    pixel_size_nm: str = ""
    planes: str = ""
    tiles: int | str = ""
    dropped: int | str = ""
    rule: str = ""
    inverted: str = ""
    polarity: str = ""
    downsampled_by: str = ""
    licence: str = ""
    remarks: str = ""


COLUMNS = tuple(column.name for column in fields(Decision))


def decided(source: Source, status: Status) -> Decision:
    """The row of a source in the set, from its own record."""
    details = source.details
    grey = details["grey"]
    limits = f" {grey['lo']:g}…{grey['hi']:g} of {grey['of']}" if "lo" in grey else ""
    return Decision(
        source.file,
        source.name,
        status,
        details["reason"],
        details["format"],
        _times(details["shape"]),
        grey["source_dtype"],
        "" if source.pixel_size_nm is None else _times(source.pixel_size_nm),
        " ".join(details["planes"]),
        details["tiles"],
        details["dropped"],
        f"{grey['rule']}{limits}",
        details["inverted"],
        f"{details['polarity']:.3f}",
        _times(details["downsampled_by"]),
        source.licence,
        "; ".join(details["remarks"]),
    )


def _times(values: Any) -> str:
    return " × ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


class Table:
    """Writes ``tile.csv`` row by row; it appears when it is complete, with the rows of earlier runs after its own.

    Beside it comes ``tile.json`` with settings and counts.

    Args:
        folder: Of the tile set; made where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "tile.csv"
        self.counts: Counter[str] = Counter()
        self._part = folder / ".tile.csv.partial"
        self._file = self._part.open("w", newline="", encoding="utf-8", errors="surrogateescape")
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        # Hashes, since a million names would take several times as much memory.
        self._files: set[bytes] = set()

    def add(self, decision: Decision) -> None:
        """Write a row."""
        self.counts[decision.status] += 1
        self._files.add(_digest(decision.file))
        self._writer.writerow(list(asdict(decision).values()))

    def close(self, settings: dict[str, Any]) -> None:
        """Add the rows of earlier runs about other files, and put table and settings in place."""
        for row in self._earlier():
            self._writer.writerow(row)
        self._file.close()
        self._part.replace(self.path)
        record = self.path.with_suffix(".json")
        self._part.write_text(json.dumps({"settings": settings, "files": dict(self.counts)}, indent=2) + "\n")
        self._part.replace(record)

    def _earlier(self) -> Iterator[list[str]]:
        if not self.path.is_file():
            return
        with self.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.reader(file)
            next(rows, None)
            yield from (row for row in rows if _digest(row[0]) not in self._files)

    def abandon(self) -> None:
        """Leave the table of earlier runs as it is."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
