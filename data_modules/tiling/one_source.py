"""From one file to its tiles in the set."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.images.image import Header, Pixels, RefusedError, Region, Volume
from data_modules.images.opening import open_volume
from data_modules.tile_set import SIDE, Source, SourceWriter
from data_modules.tiling.blocks import Shrink, blocks
from data_modules.tiling.cutting import Positions, Tiles, cut
from data_modules.tiling.grid import SMALLEST
from data_modules.tiling.planning import Planned, Settings, plan_source
from data_modules.tiling.polarity import is_inverted, polarity
from data_modules.tiling.random_tiles import random_places, read_places
from data_modules.tiling.sources import Entry
from data_modules.tiling.survey import Survey, ToGrey

_LOOKS = 16
"""Sections, evenly spaced, or random tiles on which polarity is judged."""
_LOOK_PX = 512
"""Side of the middle of a section that is looked at; larger where there are fewer sections."""


@dataclass(frozen=True)
class _Watched:
    """A volume that lets a run be stopped at every read."""

    volume: Volume
    progress: Callable[[int], object]

    @property
    def header(self) -> Header:
        return self.volume.header

    def read(self, region: Region) -> Pixels:
        self.progress(0)
        return self.volume.read(region)


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
    with open_volume(entry.path, entry.stated.dataset) as opened:
        volume = _Watched(opened, progress)
        planned = plan_source(volume.header, entry.stated.pixel_size_nm, settings)
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


def asked(entry: Entry, settings: Settings) -> dict[str, Any]:
    """JSON-ready: what a source was tiled with, so that a later run can tell whether it would do the same."""
    size = entry.stated.pixel_size_nm or settings.pixel_size_nm
    random = None if settings.random is None else [settings.random, settings.seed]
    stated = {"pixel_size_nm": None if size is None else list(size), "licence": entry.stated.licence}
    return {"grey": settings.grey, "random": random, "fingerprint": entry.fingerprint(), **stated}


def _all_tiles(volume: Volume, planned: Planned, rule: str, what: str, folder: Path) -> _Work:
    number, dropped = planned.plan.count()
    if number == 0:
        raise _too_small(volume, what)
    header = volume.header
    survey, looks = Survey(header.dtype, math.prod(header.shape), what), []
    for region in blocks(header, Shrink()):
        pixels = volume.read(region)
        survey.add(pixels)
        looks += _middles(header.shape, region, pixels)
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


def _random_tiles(volume: Volume, planned: Planned, settings: Settings, number: int, what: str) -> _Work:
    places = random_places(planned.plan, number, settings.seed)
    if len(places) == 0:
        raise _too_small(volume, what)
    read = read_places(volume, places)
    positions, first = next(read)
    survey = Survey(volume.header.dtype, sum(tile.size for tile in first), what)
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


def _record(entry: Entry, volume: Volume, planned: Planned, settings: Settings, work: _Work) -> Source:
    header, plan, score = volume.header, planned.plan, polarity(work.looks)
    drawn = "" if settings.random is None else f"; {work.number} random tiles of seed {settings.seed}"
    details = {
        "asked": asked(entry, settings),
        "reason": planned.reason + drawn,
        "format": header.format,
        "shape": list(header.shape),
        "grey": work.grey.record,
        "planes": list(plan.planes),
        "downsampled_by": [plan.shrink.z, plan.shrink.lateral, plan.shrink.lateral],
        "tiles": work.number,
        "dropped": work.dropped,
        "inverted": is_inverted(score),
        "polarity": score,
        "remarks": list(header.remarks),
    }
    return Source(entry.name, entry.what, planned.pixel_size_nm, entry.stated.licence, details)


def _too_small(volume: Volume, what: str) -> RefusedError:
    shape = " × ".join(map(str, volume.header.shape))
    return RefusedError(f"{what} is {shape} px: no tile has two sides of at least {SMALLEST} px")
