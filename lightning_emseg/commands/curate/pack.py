"""``emseg curate pack``: the tiles that were kept, as a set for training with its data card."""

import os
import warnings
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.tile_set import TileSet
from lightning_emseg.curation.card import card_of, write_card
from lightning_emseg.curation.gini import lorenz_curve
from lightning_emseg.curation.packing import pack
from lightning_emseg.curation.stages import stages_of
from lightning_emseg.report.lorenz_plot import lorenz_figure


def pack_set(tiles: Path, out: Path | None = None, workers: int | None = None) -> str:
    """Write the tiles that deduplication and filtering kept as a tile set of their own, with a data card.

    The new set has the same format, with what was known of each source. Beside it lie ``card.md`` and ``card.json``
    (sources, licences, tiles after each step, Gini coefficients), ``lorenz.png``, and ``pack.csv`` that says of every
    tile what became of it. An interrupted run goes on with the sources that are missing.

    Args:
        tiles: The tile set.
        out: Folder of the new one; by default beside the set, with -packed behind its name.
        workers: Sources at a time; as many as processors by default.

    Raises:
        UserError: if there is no tile set, nothing is left of it, it has changed since a step, a tile is damaged, or
            ``out`` holds something else.
    """
    folder = TileSet(tiles)
    out = out or folder.path.with_name(f"{folder.path.resolve().name}-packed")
    if out.resolve() == folder.path.resolve():
        raise UserError(f"--out {out} is the set itself: choose another folder")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give at least 1")
    sources = folder.sources()
    stages = stages_of(folder, sources)
    if len(stages) == 1:
        raise UserError(f"{tiles} was neither deduplicated nor filtered: run `emseg curate dedup` and `filter` first")
    last = stages[-1]
    with tqdm(total=sum(last.counts), desc="pack", unit="tile", disable=None) as bar:
        pack(sources, stages, out, workers or len(os.sched_getaffinity(0)), bar.update)
    card = card_of([each.source for each in sources], stages)
    curves = {
        stage.name: (lorenz_curve(stage.counts), entry["gini"])
        for stage, entry in zip(stages, card["stages"], strict=True)
    }
    lorenz_figure(curves).savefig(out / "lorenz.png")
    path = write_card(out, card)
    left = sum(count > 0 for count in last.counts)
    if left == 1:
        warnings.warn("all tiles are of one source: networks may learn nothing that others need", stacklevel=2)
    if unknown := card["licences"].get("unknown"):
        warnings.warn(
            f"the licence of {unknown['sources']} sources is unknown: state it before you share", stacklevel=2
        )
    return (
        f"{sum(last.counts):,} of {len(folder):,} tiles from {left:,} of {len(sources):,} sources, Gini "
        f"{card['stages'][0]['gini']:.3f} before and {card['stages'][-1]['gini']:.3f} after: {path}"
    )
