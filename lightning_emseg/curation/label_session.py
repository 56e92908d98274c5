"""Labelling by hand: which tile comes next, and the table of what was said."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_modules.errors import UserError
from data_modules.tile_set import TileSet, read_kept

LABELS = ("informative", "uninformative")
_COLUMNS = ["source", "tile", "label"]
Key = tuple[str, int]


class LabelSession:
    """Tiles that deduplication kept, in a random order, and ``labels.csv`` in the set.

    Every label is on disk when :meth:`record` returns.

    Args:
        folder: The tile set.
        number: Of tiles to label, those of earlier sessions with this seed included.
        seed: Of the order; a greater ``number`` only lengthens it.

    Raises:
        UserError: if ``number`` is not positive, or the set or the table of labels cannot be read.
    """

    def __init__(self, folder: TileSet, number: int, seed: int) -> None:
        if number < 1 or seed < 0:
            raise UserError(f"--number {number} --seed {seed}: at least 1, and at least 0")
        self.path = folder.path / "labels.csv"
        self._sources = {source.source.name: source for source in folder.sources()}
        kept = read_kept(list(self._sources.values()), folder.tables("dedup"))
        places = np.array([(at, tile) for at, each in enumerate(kept) for tile in np.flatnonzero(each)], np.int64)
        names = list(self._sources)
        order = np.random.default_rng(seed).permutation(len(places))[:number]
        self.order: list[Key] = [(names[at], tile) for at, tile in places[order].tolist()]
        self.labels = self._read()

    def upcoming(self, number: int = 2) -> list[Key]:
        """The next tiles without a label."""
        found: list[Key] = []
        for key in self.order:
            if key not in self.labels:
                found.append(key)
            if len(found) == number:
                break
        return found

    def state(self) -> Mapping[str, Any]:
        """JSON-ready: how many are ``done`` of ``number``, counts by label, and the tiles that are next."""
        done = [self.labels[key] for key in self.order if key in self.labels]
        return {
            "done": len(done),
            "number": len(self.order),
            "counts": {label: done.count(label) for label in LABELS},
            "upcoming": [{"source": source, "tile": tile} for source, tile in self.upcoming()],
        }

    def record(self, key: Key, label: str) -> None:
        """Note a label, or another one for the same tile.

        Raises:
            UserError: if the set has no such tile, or there is no such label.
        """
        self._check(key)
        if label not in LABELS:
            raise UserError(f"{label!r} is no label: {' or '.join(LABELS)}")
        # To the end, so that it is the one that `undo` takes back.
        self.labels.pop(key, None)
        self.labels[key] = label
        self._write()

    def undo(self) -> None:
        """Take back the last label, also one of an earlier session; nothing where there is none."""
        if self.labels:
            self.labels.popitem()
            self._write()

    def picture(self, key: Key) -> bytes:
        """A tile as PNG.

        Raises:
            UserError: if the set has no such tile, or it is damaged.
        """
        self._check(key)
        written = io.BytesIO()
        Image.fromarray(self._sources[key[0]].tile(key[1])).save(written, "png")
        return written.getvalue()

    def _check(self, key: Key) -> None:
        source = self._sources.get(key[0])
        if source is None or not 0 <= key[1] < len(source):
            raise UserError(f"there is no tile {key[1]} of {key[0]!r}")

    def _read(self) -> dict[Key, str]:
        found: dict[Key, str] = {}
        if not self.path.is_file():
            return found
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise UserError(f"{self.path} lacks the columns {', '.join(_COLUMNS)}: move it away")
            for row in reader:
                if not row["tile"].isdecimal() or row["label"] not in LABELS:
                    raise UserError(f"{self.path}: line {reader.line_num} is no label: mend it, or move the file away")
                self._check((row["source"], int(row["tile"])))
                found[row["source"], int(row["tile"])] = row["label"]
        return found

    def _write(self) -> None:
        part: Path = self.path.with_name(f".{self.path.name}.partial")
        with part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows([*key, label] for key, label in self.labels.items())
        part.replace(self.path)
