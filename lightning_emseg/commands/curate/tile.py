"""``emseg curate tile``: files of micrographs become a set of 8-bit tiles."""

import os
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.images.grey import check_rule
from data_modules.tiling import Settings, find_sources, parse_pixel_size, read_stated, tile_sources


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
        pixel_size_nm: Of the files, in nm, instead of what they state: one number (Y and X), Y,X or Z,Y,X.
        sources: CSV with the column file (or a folder, for all in it) and any of pixel_size_nm, licence and dataset.
        random: Number of tiles from random places of each source, instead of all of its tiles; only these are read.
        seed: Of the random places.
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
