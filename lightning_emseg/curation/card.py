"""The data card: what a set was made of, and what is left of each source after each step."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.tile_set import Source
from lightning_emseg.curation.gini import gini, sources_with
from lightning_emseg.curation.stages import Stage

_MOST = 0.8
"""The paper says which share of the sources has four fifths of the tiles."""


def card_of(sources: Sequence[Source], stages: Sequence[Stage]) -> dict[str, Any]:
    """JSON-ready record.

    Gini coefficients are over all sources of the first stage, with 0 tiles for those that a step emptied, so that
    stages can be compared.

    Args:
        sources: In the order of the counts.
        stages: From all tiles to those that are left.
    """
    counts = [stage.counts for stage in stages]
    entries = [
        {
            "name": source.name,
            "file": source.file,
            "licence": source.licence or "unknown",
            "pixel_size_nm": None if source.pixel_size_nm is None else list(source.pixel_size_nm),
            "tiles": {stage.name: count[index] for stage, count in zip(stages, counts, strict=True)},
        }
        for index, source in enumerate(sources)
    ]
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
        "licences": _licences(entries, stages[-1].name),
        "sources": entries,
    }


def _licences(entries: Sequence[Mapping[str, Any]], last: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        tiles = entry["tiles"][last]
        if tiles:
            sums = found.setdefault(entry["licence"], {"sources": 0, "tiles": 0})
            sums["sources"] += 1
            sums["tiles"] += tiles
    return dict(sorted(found.items()))


def write_card(folder: Path, card: Mapping[str, Any]) -> Path:
    """Write ``card.json``, and ``card.md`` that shows ``lorenz.png`` beside it; returns the path of the latter."""
    (folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    path = folder / "card.md"
    path.write_text(_markdown(card))
    return path


def _markdown(card: Mapping[str, Any]) -> str:
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
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
