"""Tile sets from many files, several at a time, with a table of what became of each."""

import csv
import hashlib
import json
import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_modules.errors import UserError
from data_modules.images.image import Image, Pixels, RefusedError, Region
from data_modules.images.opening import open_image, suffix_of
from data_modules.images.raster import large_images
from data_modules.store.layout import is_url
from data_modules.store.location import locate
from data_modules.tile_set import SIDE, Source, SourceWriter
from data_modules.tiling.cutting import (
    SMALLEST,
    Planned,
    Positions,
    Settings,
    Shrink,
    Tiles,
    blocks,
    cut,
    plan_source,
    random_places,
    read_places,
)
from data_modules.tiling.sources import Entry
from data_modules.tiling.survey import Survey, ToGrey, is_inverted, polarity

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
        polarity: Score of :func:`~data_modules.tiling.survey.polarity`.
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


_LOOKS = 16
"""Sections, evenly spaced, or random tiles on which polarity is judged."""
_LOOK_PX = 512
"""Side of the middle of a section that is looked at; larger where there are fewer sections."""


@dataclass(frozen=True)
class _Work:
    grey: ToGrey
    looks: Sequence[Tiles]
    number: int
    dropped: int
    batches: Iterator[tuple[Tiles, Positions]]


def tile_source(entry: Entry, folder: Path, settings: Settings, progress: Callable[[int], object]) -> Source:
    """Cut the tiles of a source and write them.

    Args:
        entry: The file.
        folder: Of the tile set.
        settings: Of the run.
        progress: Told the number of tiles after every batch, and 0 before every read; may raise to stop.

    Returns:
        The record that is stored with the tiles.

    Raises:
        RefusedError: if the file cannot be tiled, with the reason.
        UserError: if the set cannot be written.
    """
    with open_image(entry.path, entry.stated.dataset) as opened:
        volume = _watch(opened, progress)
        planned = plan_source(volume, entry.stated.pixel_size_nm, settings)
        if settings.random is None:
            work = _all_tiles(volume, planned, settings.grey, entry.path, folder)
        else:
            work = _random_tiles(volume, planned, settings, settings.random, entry.path)
        source = _record(entry, volume, planned, settings, work)
        with SourceWriter(folder, source, work.number) as writer:
            for tiles, positions in work.batches:
                writer.write(tiles, positions)
                progress(len(tiles))
    return source


def _watch(volume: Image, progress: Callable[[int], object]) -> Image:
    """Let a run be stopped at every read."""

    def fetch(region: Region) -> Pixels:
        progress(0)
        return volume.read(region)

    return replace(volume, fetch=fetch)


def asked(entry: Entry, settings: Settings) -> dict[str, Any]:
    """JSON-ready: what a source was tiled with, so that a later run can tell whether it would do the same."""
    size = entry.stated.pixel_size_nm or settings.pixel_size_nm
    random = None if settings.random is None else [settings.random, settings.seed]
    stated = {"pixel_size_nm": None if size is None else list(size), "licence": entry.stated.licence}
    return {"grey": settings.grey, "random": random, "fingerprint": entry.fingerprint(), **stated}


def _all_tiles(volume: Image, planned: Planned, rule: str, what: str, folder: Path) -> _Work:
    number, dropped = planned.plan.count()
    if number == 0:
        raise _too_small(volume, what)
    survey, looks = Survey(volume.dtype, math.prod(volume.shape), what), []
    for region in blocks(volume, Shrink()):
        pixels = volume.read(region)
        survey.add(pixels)
        looks += _middles(volume.shape, region, pixels)
    grey = survey.to_grey(rule)
    batches = cut(volume, planned.plan, grey, what, folder)
    return _Work(grey, [grey.apply(look, what) for look in looks], number, dropped, batches)


def _middles(shape: tuple[int, int, int], region: Region, pixels: Pixels) -> list[Pixels]:
    sections, *sides = shape
    half = _LOOK_PX * math.isqrt(_LOOKS // min(_LOOKS, sections)) // 2
    chosen = {round(section) for section in np.linspace(0, sections - 1, _LOOKS)}
    rows, columns = (slice(max(0, side // 2 - half), side // 2 + half) for side in sides)
    z, y, _ = region
    if not y.start <= sides[0] // 2 < y.stop:
        return []
    band = slice(max(0, rows.start - y.start), rows.stop - y.start)
    inside = (section for section in range(z.start, z.stop) if section in chosen)
    # Copies, since a view would keep the whole block in memory.
    return [pixels[section - z.start, band, columns].copy() for section in inside]


def _random_tiles(volume: Image, planned: Planned, settings: Settings, number: int, what: str) -> _Work:
    places = random_places(planned.plan, number, settings.seed)
    if len(places) == 0:
        raise _too_small(volume, what)
    read = read_places(volume, places)
    positions, first = next(read)
    survey = Survey(volume.dtype, sum(tile.size for tile in first), what)
    for tile in first:
        survey.add(tile)
    grey = survey.to_grey(settings.grey, f"the first {len(first)} random tiles")
    looks = [grey.apply(tile, what) for tile in first[:_LOOKS]]

    def batches() -> Iterator[tuple[Tiles, Positions]]:
        for places, pixels in chain([(positions, first)], read):
            tiles = np.zeros((len(pixels), SIDE, SIDE), np.uint8)
            for tile, each in zip(tiles, pixels, strict=True):
                tile[: each.shape[0], : each.shape[1]] = grey.apply(each, what)
            yield tiles, places

    return _Work(grey, looks, len(places), 0, batches())


def _record(entry: Entry, volume: Image, planned: Planned, settings: Settings, work: _Work) -> Source:
    plan, score = planned.plan, polarity(work.looks)
    drawn = "" if settings.random is None else f"; {work.number} random tiles of seed {settings.seed}"
    details = {
        "asked": asked(entry, settings),
        "reason": planned.reason + drawn,
        "format": volume.format,
        "shape": list(volume.shape),
        "grey": work.grey.record,
        "planes": list(plan.planes),
        "downsampled_by": [plan.shrink.z, plan.shrink.lateral, plan.shrink.lateral],
        "tiles": work.number,
        "dropped": work.dropped,
        "inverted": is_inverted(score),
        "polarity": score,
        "remarks": list(volume.remarks),
    }
    return Source(entry.name, entry.what, planned.pixel_size_nm, entry.stated.licence, details)


def _too_small(volume: Image, what: str) -> RefusedError:
    shape = " × ".join(map(str, volume.shape))
    return RefusedError(f"{what} is {shape} px: no tile has two sides of at least {SMALLEST} px")


_AHEAD = 4
"""Files a thread that are found before the first of them is done."""


class _Stopped(BaseException):
    """Ends a thread whose run is over; no exception of a decoder, which would refuse the file."""


def tile_sources(
    entries: Iterable[Entry],
    folder: Path,
    settings: Settings,
    workers: int,
    progress: Callable[[int], object],
    record: Mapping[str, Any],
) -> Counter[str]:
    """Tile files in the order in which they come; sources that the set has are left as they are.

    Args:
        entries: What to tile; taken as they are needed.
        folder: Of the tile set; made where it does not exist.
        settings: Rules.
        workers: Threads.
        progress: Told the number of tiles after every batch, or 0, by one thread at a time.
        record: JSON-ready, of the run, for ``tile.json``.

    Returns:
        Number of files by what became of them.

    Raises:
        UserError: if the set cannot be written; files that cannot be read are rows of the table instead.
    """
    stop, lock = threading.Event(), threading.Lock()

    def advance(tiles: int) -> None:
        if stop.is_set():
            raise _Stopped
        with lock:
            progress(tiles)

    table = Table(folder)
    pending: deque[Future[Decision]] = deque()
    with large_images(), ThreadPoolExecutor(workers) as pool:
        try:
            for entry in entries:
                pending.append(pool.submit(_decide, entry, folder, settings, advance))
                if len(pending) > _AHEAD * workers:
                    table.add(pending.popleft().result())
            while pending:
                table.add(pending.popleft().result())
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            table.abandon()
            raise
    table.close({**record, **asdict(settings)})
    return table.counts


def _decide(entry: Entry, folder: Path, settings: Settings, progress: Callable[[int], object]) -> Decision:
    if suffix_of(entry.path) is None and not is_url(entry.path) and Path(entry.path).is_file():
        return Decision(entry.what, "", "ignored", "its name is of no format that is read")
    try:
        if (target := folder / "sources" / entry.name).exists():
            return decided(_known(entry, target, settings), "known")
        return decided(tile_source(entry, folder, settings, progress), "tiled")
    except RefusedError as error:
        return Decision(entry.what, "", "refused", str(error), licence=entry.stated.licence)


def _known(entry: Entry, target: Path, settings: Settings) -> Source:
    try:
        source = Source.from_attributes(locate(target).metadata()["attributes"]["emseg"]["tiles"])
        before = source.details["asked"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{target} is none of `emseg curate tile`: remove it and run that again") from error
    if differing := [key for key, value in asked(entry, settings).items() if before.get(key) != value]:
        raise RefusedError(
            f"{entry.path}: the set has tiles of {entry.what} with another {', '.join(differing)}; remove {target} to "
            "have them made again, or write to another set"
        )
    return source
