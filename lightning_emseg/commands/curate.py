"""Commands ``emseg curate``: from files of micrographs to a set of tiles worth learning from."""

import os
import warnings
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.images.grey import check_rule
from data_modules.tile_set import TileSet
from data_modules.tiling import Settings, find_sources, parse_pixel_size, read_stated, tile_sources
from lightning_emseg.curation.deduplication import DuplicateRule, Look, deduplicate
from lightning_emseg.curation.labelling import LabelServer, LabelSession
from lightning_emseg.curation.packing import card_of, lorenz_curve, lorenz_figure, pack, stages_of, write_card


def tile(
    data: str,
    tiles: Path,
    grey: str = "percentile",
    pixel_size_nm: str = "",
    sources: Path | None = None,
    random: int | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> str:
    """Cut images, stacks, volumes and videos into tiles of 224 × 224 px of 8 bit.

    Isotropic volumes (Z within 20 %) are cut in three planes, others in xy; remainders below 112 px are dropped,
    sources above 5 GB (of 8-bit pixels) are downsampled. What became of every file, with its reason, goes to
    ``tile.csv`` in the set. Files that cannot be read are rows of it; an interrupted run goes on where it was, and
    further calls add to the set.

    Args:
        data: A folder with its subfolders, a file (PNG, JPEG, TIFF, MRC, NIfTI, AVI, MP4, FILE.h5:dataset), a Zarr
            array or OME-Zarr image, or the URL of one (s3, gs, http, https).
        tiles: The tile set to write into, made where it does not exist.
        grey: How sources of more than 8 bits become 8 bit: percentile (0.1 to 99.9 of the whole source), range, dtype
            (full range of the integer type), or two values lo,hi that become 0 and 255.
        pixel_size_nm: Pixel size of the files in nm, instead of what they state: one number (Y and X), Y,X or Z,Y,X.
        sources: CSV with the column file (or a folder, for all in it) and any of pixel_size_nm, licence and dataset.
        random: Number of tiles from random places of each source, instead of all of its tiles; only these are read.
        seed: Random seed of the places.
        workers: Files at a time; as many as processors by default.

    Raises:
        UserError: if there is nothing at data, an argument is out of range, or no file could be tiled.
    """
    check_rule(grey)
    if (random is not None and random < 1) or (workers is not None and workers < 1):
        raise UserError(f"--random {random} --workers {workers}: give at least 1")
    settings = Settings(grey, parse_pixel_size(pixel_size_nm, "--pixel-size-nm"), random, seed)
    entries = find_sources(data, read_stated(sources))
    threads = workers or len(os.sched_getaffinity(0))
    with tqdm(desc="tile", unit="tile", disable=None) as bar:
        counts = tile_sources(entries, tiles, settings, threads, bar.update, {"data": data})
    table = tiles / "tile.csv"
    summary = f"{counts['refused']:,} refused, {counts['ignored']:,} of other formats: {table}"
    if counts["tiled"] + counts["known"] == 0:
        raise UserError(f"nothing was tiled, {summary} has the reasons")
    alone = sum(not each.name.startswith(".") for each in (tiles / "sources").iterdir()) == 1
    text = f"{counts['tiled']:,} sources tiled, {counts['known']:,} known, {summary}"
    return text + ("; all tiles are of one source, so that many may be alike" if alone else "")


def dedup(
    tiles: Path,
    distance: int = 11,
    look: Look = "across",
    correlation: float = 0.6,
    seed: int = 0,
    workers: int | None = None,
) -> str:
    """Find near-duplicates within and across sources; one tile of each group is kept, nothing is deleted.

    All pairs of 64-bit difference hashes are searched exactly. The decision about every tile, with its exemplar, the
    distance and the correlation, goes to ``dedup.csv`` in the set. Hashes are kept, so that a run that was interrupted
    or is repeated with another rule does not make them again.

    Args:
        tiles: Tile set.
        distance: Greatest number of differing bits between a tile and its exemplar, 0–20; Conrad and Narayan (2021)
            have "< 12".
        look: Whether pixels are compared ``across`` sources, where hashes of millions of tiles are near by chance, or
            for ``all`` pairs, or for ``none``.
        correlation: Least correlation of the pixels of duplicates, −1 to 1.
        seed: Random seed for choosing exemplars.
        workers: Threads; as many as processors by default.

    Raises:
        UserError: if there is no tile set, a tile is damaged, or an argument is out of range.
    """
    if not 0 <= distance <= 20 or not -1 <= correlation <= 1:
        raise UserError(f"--distance {distance} --correlation {correlation}: 0 to 20 bits, and −1 to 1")
    folder = TileSet(tiles)
    number = len(folder)
    threads = workers or len(os.sched_getaffinity(0))
    with tqdm(total=number, desc="hash", unit="tile", disable=None) as bar:
        found = deduplicate(folder, DuplicateRule(distance, look, correlation, seed), threads, bar.update)
    kept = int(found.kept.sum())
    differ = found.refused
    return (
        f"{kept:,} of {number:,} tiles kept, {number - kept:,} are near-duplicates; {differ:,} candidates stay because "
        f"their pixels differ: {folder.path / 'dedup.csv'}"
    )


def label(tiles: Path, number: int = 2000, seed: int = 0, port: int = 0) -> str:
    """Show tiles in a browser, one after the other, and keep what is said of them in ``labels.csv`` in the set.

    Open the address that is printed (it is of this machine alone; on a cluster, forward its port with ``ssh -L``) and
    press i for informative, u for uninformative, z to undo. Every label is saved at once, and the next call goes on
    where this one ended. Tiles come in a random order from those that `emseg curate dedup` kept.

    Args:
        tiles: Tile set.
        number: Number of tiles to label, those labelled before included; Conrad and Narayan (2021) labelled 14,000.
        seed: Random seed of the order.
        port: Port of the page; any that is free by default.

    Raises:
        UserError: if there is no tile set, the labels in it are damaged, or the port is taken.
    """
    session = LabelSession(TileSet(tiles), number, seed)
    with LabelServer(session, port) as server:
        print(f"label at {server.address} (finish there, or with Ctrl-C)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
    counts = session.state()["counts"]
    said = ", ".join(f"{value:,} {name}" for name, value in counts.items())
    return f"{sum(counts.values()):,} of {len(session.order):,} tiles labelled ({said}): {session.path}"


def pack_set(tiles: Path, out: Path | None = None, workers: int | None = None) -> str:
    """Write the tiles that deduplication and filtering kept as a tile set of their own, with a data card.

    The new set has the same format, with what was known of each source. Beside it lie ``card.md`` and ``card.json``
    (sources, licences, tiles after each step, Gini coefficients), ``lorenz.png``, and ``pack.csv`` that says of every
    tile what became of it. An interrupted run goes on with the sources that are missing.

    Args:
        tiles: Tile set.
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
