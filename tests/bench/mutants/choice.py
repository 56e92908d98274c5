"""Reproducible choice of mutants, spread over the folders of both packages."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.bench.mutants.sites import Site

EXCLUDED = Path(__file__).with_name("excluded.json")
"""Mutants that no test can kill, each with the reason."""

WEIGHTS = {
    **dict.fromkeys(("comparison", "arithmetic", "bound", "swap", "axis", "extremum"), 3.0),
    **{"constant": 2.0, "equality": 1.0, "logic": 1.0, "negation": 0.5},
}
"""Weight of each kind of change; a kind that hardly a test can miss shows little."""


def choose(candidates: Iterable[Site], count: int, seed: int) -> list[Site]:
    """Choose sites: some of every folder, at most one of a file, kinds of change by their weights.

    The choice depends on the text of the sites alone, so that an edit elsewhere leaves the others as they are.

    Args:
        candidates: Sites to choose from.
        count: Number of sites.
        seed: Random seed of the choice.
    """
    rooms: dict[str, dict[str, list[Site]]] = defaultdict(lambda: defaultdict(list))
    for site in candidates:
        rooms[site.room][site.file].append(site)
    chosen: list[Site] = []
    for room, number in share({room: len(files) for room, files in rooms.items()}, count).items():
        files = rooms[room]
        ranked = sorted(files, key=lambda file: _rank(seed, file))
        chosen += [_choose_in_file(files[file], seed) for file in ranked[:number]]
    return sorted(chosen, key=lambda site: site.file)


def share(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Share a number among folders: one each while it lasts, the rest in proportion to their files.

    Args:
        sizes: Files of each folder, which no share exceeds.
        count: Number to share.
    """
    shares = dict.fromkeys(sorted(sizes, key=lambda room: (-sizes[room], room))[:count], 1)
    for _ in range(min(count, sum(sizes.values())) - len(shares)):
        neediest = max((room for room in shares if shares[room] < sizes[room]), key=lambda r: (sizes[r] / shares[r], r))
        shares[neediest] += 1
    return shares


def _choose_in_file(sites: Sequence[Site], seed: int) -> Site:
    file = sites[0].file
    kind = max({site.kind for site in sites}, key=lambda kind: _draw(seed, file, kind) ** (1 / WEIGHTS[kind]))
    return min((site for site in sites if site.kind == kind), key=lambda site: _rank(seed, *map(str, _key(site))))


def _draw(seed: int, *words: str) -> float:
    """Draw from 0–1, always the same for the same words."""
    return int(_rank(seed, *words)[:12], 16) / 16**12


def _rank(seed: int, *words: str) -> str:
    return hashlib.sha256("\0".join([str(seed), *words]).encode()).hexdigest()


def _key(site: Site) -> tuple[str, str, str, int, str]:
    return site.file, site.name, site.source, site.ordinal, site.mutated


def read_excluded() -> set[tuple[str, str, str, int, str]]:
    """Read the keys of the mutants that are left out."""
    return {
        (row["file"], row["name"], row["source"], row["ordinal"], row["mutated"])
        for row in json.loads(EXCLUDED.read_text())
    }


def is_excluded(site: Site, excluded: set[tuple[str, str, str, int, str]]) -> bool:
    """Tell whether a site is on the list of exclusions."""
    return _key(site) in excluded
