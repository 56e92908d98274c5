"""Tile set of what curation kept, and its data card."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tile_set import Source, SourceTiles, SourceWriter, TileSet, read_kept, write_decisions
from lightning_emseg.core.figures import hex_colour, style_plot
from lightning_emseg.core.tables import write_json


def lorenz_curve(counts: Sequence[int]) -> NDArray[np.float64]:
    """Share of all tiles that the sources with fewest of them have together.

    Args:
        counts: Tiles of each source, 0 for those that have none left; not all of them 0.

    Returns:
        ``float64 (sources + 1,)`` from 0 to 1: entry ``i`` for the ``i`` smallest sources.
    """
    total = np.concatenate([[0], np.cumsum(np.sort(np.asarray(counts, np.int64)))])
    return np.asarray(total / total[-1], np.float64)


def gini(counts: Sequence[int]) -> float:
    """Gini coefficient: twice the area between the line of equality and the Lorenz curve (Conrad and Narayan 2021).

    Args:
        counts: Tiles of each source, as in :func:`lorenz_curve`.

    Returns:
        0 where all ``n`` sources have the same number of tiles, ``1 − 1/n`` where one has all of them.
    """
    curve = lorenz_curve(counts)
    return float(1 - (curve[1:] + curve[:-1]).sum() / len(counts))


def sources_with(counts: Sequence[int], share: float) -> float:
    """Least share of the sources, 0–1, that together have ``share`` of the tiles."""
    largest_first = np.cumsum(np.sort(np.asarray(counts, np.int64))[::-1])
    return float((np.searchsorted(largest_first, share * largest_first[-1]) + 1) / len(counts))


_COLOURS = tuple(map(hex_colour, ("blue", "red", "green")))


def lorenz_figure(curves: Mapping[str, tuple[NDArray[np.float64], float]]) -> Figure:
    """Share of tiles over share of sources, as in Appendix 1 of Conrad and Narayan (2021).

    Args:
        curves: Curves by stage: ``float64 (sources + 1,)`` of values 0–1, and its Gini coefficient.

    Returns:
        5 × 5 inches.
    """
    figure = Figure(figsize=(5, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="every source the same")
    for (name, (curve, gini)), colour in zip(curves.items(), _COLOURS, strict=False):
        label = f"{name}, Gini {gini:.3f}"
        axes.plot(np.linspace(0, 1, len(curve)), curve, color=colour, linewidth=2, label=label)
    axes.set(
        xlabel="share of sources, those with fewest tiles first", ylabel="share of tiles", xlim=(0, 1), ylim=(0, 1)
    )
    axes.set_aspect("equal")
    style_plot(axes)
    axes.legend(loc="upper left", frameon=False)
    return figure


@dataclass(frozen=True)
class Stage:
    """Tiles after a step.

    Attributes:
        name: ``tiled``, ``deduplicated`` or ``filtered``.
        kept: ``bool (N,)`` a source.
        settings: Settings of the step, as it recorded them.
    """

    name: str
    kept: Sequence[NDArray[np.bool_]]
    settings: Mapping[str, Any]

    @property
    def counts(self) -> list[int]:
        """Tiles of each source."""
        return [int(each.sum()) for each in self.kept]


def stages_of(folder: TileSet, sources: Sequence[SourceTiles]) -> list[Stage]:
    """All tiles, and those left by each step that was taken; the last one is what the curation ends with.

    Raises:
        UserError: if the set has changed since a step, or one was taken anew after the next.
    """
    stages = [Stage("tiled", [np.ones(len(source), np.bool_) for source in sources], {})]
    for step, name in (("dedup", "deduplicated"), ("filter", "filtered")):
        if not folder.tables(step):
            continue
        kept = read_kept(sources, folder.tables(step))
        path = folder.path / f"{step}.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): run `emseg curate {step}` again") from error
        # The card counts sources itself.
        settings = {key: content[key] for key in content if key not in ("sources", "nothing_left", "little_left")}
        if step == "filter" and settings.get("dedup") != folder.hash_table("dedup"):
            raise UserError(
                f"{folder.path / 'dedup.csv'} has changed since filter.csv was made: run `emseg curate filter` again"
            )
        left = [before & now for before, now in zip(stages[-1].kept, kept, strict=True)]
        stages.append(Stage(name, left, settings))
    return stages


_MOST = 0.8
"""Share of the tiles whose share of sources the paper states."""


def card_of(sources: Sequence[Source], stages: Sequence[Stage]) -> dict[str, Any]:
    """JSON-ready record.

    Gini coefficients are over all sources of the first stage, with 0 tiles for those that a step emptied, so that
    stages can be compared.

    Args:
        sources: Sources in the order of the counts.
        stages: Stages from all tiles to those that are left.
    """
    counts = [stage.counts for stage in stages]
    entries: list[dict[str, Any]] = [
        {
            "name": source.name,
            "file": source.file,
            "licence": source.licence or "unknown",
            "pixel_size_nm": None if source.pixel_size_nm is None else list(source.pixel_size_nm),
            "tiles": {stage.name: count[index] for stage, count in zip(stages, counts, strict=True)},
        }
        for index, source in enumerate(sources)
    ]
    licences: dict[str, dict[str, int]] = {}
    for entry in sorted(entries, key=lambda each: str(each["licence"])):
        if tiles := entry["tiles"][stages[-1].name]:
            sums = licences.setdefault(entry["licence"], {"sources": 0, "tiles": 0})
            sums["sources"] += 1
            sums["tiles"] += tiles
    return {
        "stages": [
            {
                "name": stage.name,
                "tiles": sum(count),
                "sources": sum(value > 0 for value in count),
                "gini": gini(count),
                "share_of_sources_with_80_percent": sources_with(count, _MOST),
                "settings": dict(stage.settings),
            }
            for stage, count in zip(stages, counts, strict=True)
        ],
        "licences": licences,
        "sources": entries,
    }


def write_card(folder: Path, card: Mapping[str, Any]) -> Path:
    """Write ``card.json``, and ``card.md`` that shows ``lorenz.png`` beside it; returns the path of the latter."""
    write_json(folder / "card.json", card)
    stages = card["stages"]
    names = [stage["name"] for stage in stages]
    last = stages[-1]
    parts = [
        "# Data card",
        f"{last['tiles']:,} tiles of 224 × 224 px from {last['sources']:,} sources.",
        "## Stages",
        _table(
            ["stage", "tiles", "sources", "Gini", "sources with 80 % of the tiles"],
            [
                [
                    stage["name"],
                    f"{stage['tiles']:,}",
                    f"{stage['sources']:,}",
                    f"{stage['gini']:.3f}",
                    f"{stage['share_of_sources_with_80_percent']:.0%}",
                ]
                for stage in stages
            ],
        ),
        "The Gini coefficient is 0 where all sources have the same number of tiles, and near 1 where one has nearly "
        "all; sources that a step left without tiles count with 0.",
        "![Lorenz curves](lorenz.png)",
        "## Licences",
        _table(
            ["licence", "sources", "tiles"],
            [[name, f"{each['sources']:,}", f"{each['tiles']:,}"] for name, each in card["licences"].items()],
        ),
        "## Sources",
        _table(
            ["source", "file", "licence", "nm per pixel", *names],
            [
                [
                    entry["name"],
                    entry["file"],
                    entry["licence"],
                    " × ".join(f"{side:g}" for side in entry["pixel_size_nm"] or ()) or "unknown",
                    *(f"{entry['tiles'][name]:,}" for name in names),
                ]
                for entry in card["sources"]
            ],
        ),
        "## Settings",
        *(
            f"### {stage['name']}\n\n```json\n{json.dumps(stage['settings'], indent=2, ensure_ascii=False)}\n```"
            for stage in stages[1:]
        ),
    ]
    path = folder / "card.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [
        [" ".join(cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split()) for cell in row]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *escaped])


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
        sources: Sources of the set.
        stages: Stages of its curation.
        out: Folder of the new set.
        workers: Sources at a time.
        progress: Callback with the number of tiles that were written.

    Raises:
        UserError: if nothing is left, ``out`` has tiles of another packing, a tile is damaged, or the disk is full.
    """
    left = [(source, kept) for source, kept in zip(sources, stages[-1].kept, strict=True) if kept.any()]
    if not left:
        raise UserError(
            f"no tile is left to pack: {stages[-1].name} tiles are none; choose other settings for that step"
        )
    names = {source.key for source, _ in left}
    there = {each.key: each.source for each in TileSet(out).sources()} if (out / "sources").is_dir() else {}
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
    name = source.key
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
                yield source.key, tile, 1, "packed", packed
                packed += 1
            else:
                yield source.key, tile, 0, f"not among the {ended} tiles", ""
