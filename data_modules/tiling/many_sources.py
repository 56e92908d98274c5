"""Tiling everything that was found, several files at a time, with a table of what became of each."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from data_modules.images.image import RefusedError
from data_modules.images.opening import suffix_of
from data_modules.images.raster import large_images
from data_modules.store.layout import is_url
from data_modules.store.location import locate
from data_modules.tile_set import Source
from data_modules.tiling.decisions import Decision, Table, decided
from data_modules.tiling.one_source import asked, tile_source
from data_modules.tiling.planning import Settings
from data_modules.tiling.sources import Entry

_AHEAD = 4
"""Files a thread that are found before the first of them is done."""


class _StoppedError(Exception):
    """Ends a thread whose run is over."""


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
            raise _StoppedError
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
