"""A tile set that holds only what the curation kept."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import Source, SourceTiles, SourceWriter, TileSet
from lightning_emseg.curation.decisions import write_decisions
from lightning_emseg.curation.stages import Stage

Kept = NDArray[np.bool_]


def pack(
    sources: Sequence[SourceTiles],
    stages: Sequence[Stage],
    out: Path,
    workers: int,
    progress: Callable[[int], object] = lambda tiles: None,
) -> TileSet:
    """Write the tiles of the last stage as a set of their own, and ``pack.csv`` about every tile into it.

    Sources appear when they are complete; those that an earlier run completed are left as they are. Sources without
    tiles are left out.

    Args:
        sources: Of the set.
        stages: Of it.
        out: Folder of the new set.
        workers: Sources at a time.
        progress: Told how many tiles are written.

    Raises:
        UserError: if nothing is left, ``out`` has tiles of another packing, a tile is damaged, or the disk is full.
    """
    left = [(source, kept) for source, kept in zip(sources, stages[-1].kept, strict=True) if kept.any()]
    if not left:
        raise UserError(
            f"no tile is left to pack: {stages[-1].name} tiles are none; choose other settings for that step"
        )
    names = {source.source.name for source, _ in left}
    there = {each.source.name: each.source for each in TileSet(out).sources()} if (out / "sources").is_dir() else {}
    if strange := there.keys() - names:
        raise UserError(f"{out} has tiles of {min(strange)}, which are not to be packed: choose another --out")
    with ThreadPoolExecutor(workers) as pool:
        # Exceptions are raised where results are asked for.
        list(pool.map(lambda each: _pack_source(each[0], each[1], out, there, progress), left))
    packed = TileSet(out)
    counts = {stage.name: sum(stage.counts) for stage in stages}
    write_decisions(packed, "pack", ("packed_tile",), _rows(sources, stages), counts)
    return packed


def _pack_source(
    source: SourceTiles, kept: Kept, out: Path, there: Mapping[str, Source], progress: Callable[[int], object]
) -> None:
    number = int(kept.sum())
    mark = {"of": len(source), "kept": hashlib.sha256(kept.tobytes()).hexdigest(), "tiles": source.array.stamp}
    name = source.source.name
    if name in there:
        if there[name].details.get("packed") != mark:
            raise UserError(f"{out} has other tiles of {name}: remove it to pack anew, or choose another --out")
        progress(number)
        return
    details = {**source.source.details, "packed": mark}
    with SourceWriter(out, replace(source.source, details=details), number) as writer:
        for start, tiles in source.batches():
            chosen = kept[start : start + len(tiles)]
            if chosen.any():
                writer.write(tiles[chosen], source.positions[start : start + len(tiles)][chosen])
                progress(int(chosen.sum()))


def _rows(sources: Sequence[SourceTiles], stages: Sequence[Stage]) -> Iterator[tuple[str | int, ...]]:
    """Of the table: source, tile in the old set, kept, the stage that it did not reach, and tile in the new set."""
    for index, source in enumerate(sources):
        packed = 0
        for tile in range(len(source)):
            ended = next((stage.name for stage in stages if not stage.kept[index][tile]), None)
            if ended is None:
                yield source.source.name, tile, 1, "packed", packed
                packed += 1
            else:
                yield source.source.name, tile, 0, f"not among the {ended} tiles", ""
