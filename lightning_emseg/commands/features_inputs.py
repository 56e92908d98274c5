"""Images, masks and encoders as the commands ``emseg features`` are given them, and the files that they write."""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.images.grey import to_8_bit
from data_modules.images.pages import Page, find_images, pair
from data_modules.tile_set import TileSet
from lightning_emseg.core.tables import write_csv, write_json
from lightning_emseg.evaluation.reading import nearly_two_values
from lightning_emseg.features.encoder import Encoder, open_encoder

Pixels = NDArray[np.uint8]
Record = Mapping[str, Any]


def open_encoders(specs: Sequence[str], images: Sequence[Pixels]) -> list[Encoder]:
    """Make encoders from ``NAME=ENCODER``, on the GPU where there is one; see `open_encoder`.

    Args:
        specs: Specifications with different names, one or more.
        images: Grey levels by which random encoders are normalised; if all have one size, networks that are made for
            one size are made for theirs, see `open_encoder`.

    Raises:
        UserError: if a name is missing or there twice, an encoder cannot be made, or all pixels are equal.
    """
    named = [spec.partition("=") for spec in specs]
    if wrong := [spec for spec, (name, _, what) in zip(specs, named, strict=True) if not name or not what]:
        raise UserError(
            f"--encoders {wrong[0]}: give NAME=FILE, NAME=ARCHITECTURE:FILE, NAME=random:ARCHITECTURE:SEED or "
            "NAME=imagenet:ARCHITECTURE"
        )
    names = [name for name, _, _ in named]
    if len(set(names)) < len(names):
        raise UserError(f"--encoders has a name twice: {', '.join(names)}")
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)
    levels = np.arange(256)
    mean = float(np.average(levels, weights=counts))
    std = float(np.sqrt(np.average((levels - mean) ** 2, weights=counts)))
    if std == 0:
        raise UserError(f"all pixels of the images have grey level {mean:g}: nothing can be seen in them")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = {(image.shape[0], image.shape[1]) for image in images}
    size = sizes.pop() if len(sizes) == 1 else None
    return [open_encoder(name, what, (mean, std), size).to(device) for name, _, what in named]


def read_images(spec: str) -> list[tuple[str, Pixels]]:
    """Read names and grey levels of all images of a folder or file; more than 8 bits by the percentiles of each image.

    Raises:
        UserError: if there are none, or one is damaged or coloured.
    """
    return [(page.name, _read_grey(page)) for page in find_images(spec)]


def read_pairs(images: str, labels: str) -> list[tuple[str, Pixels, NDArray[np.bool_]]]:
    """Read names, grey levels and masks; files are matched by name, see :func:`data_modules.images.pages.pair`.

    Raises:
        UserError: if an image has no mask or a mask no image, sizes differ, or a mask is none, empty or full.
    """
    pages = find_images(images)
    partners = pair(pages, find_images(labels))
    return [(page.name, _read_grey(page), _read_mask(label, page)) for page, label in zip(pages, partners, strict=True)]


def choose_tiles(spec: str, number: int, side: int, seed: int, fewest: int) -> tuple[list[str], Pixels]:
    """Choose random tiles of a tile set, or of a grid over the images of a folder; smaller ones are left out.

    Args:
        spec: Folder of images, an image file, or a tile set, of whose tiles the upper left part is taken.
        number: Number of tiles; all, with a warning, where there are fewer.
        side: Side of a tile in px.
        seed: Random seed for choosing tiles.
        fewest: Number of tiles below which nothing can be measured.

    Returns:
        Names, and ``uint8 (N, side, side)``.

    Raises:
        UserError: if there are no images, or fewer than ``fewest`` tiles of that size.
    """
    found = list(_find_tiles(spec, side))
    if len(found) < fewest:
        raise UserError(
            f"{spec} has {len(found)} tiles of {side} × {side} px, but at least {fewest} are needed: give more or "
            "larger images, or a smaller --size"
        )
    if len(found) < number:
        warnings.warn(f"{spec} has only {len(found)} tiles of {side} × {side} px: all are taken", stacklevel=2)
    chosen = np.random.default_rng(seed).permutation(len(found))[:number]
    tiles = [found[index] for index in sorted(chosen.tolist())]
    return [name for name, _ in tiles], np.stack([read()[:side, :side] for _, read in tiles])


def _find_tiles(spec: str, side: int) -> Iterator[tuple[str, Callable[[], Pixels]]]:
    """Names of tiles, and functions that read them with what lies below and right of them."""
    if (Path(spec) / "sources").is_dir():
        for source in TileSet(spec).sources():
            for index in np.flatnonzero((source.positions[:, 4:6] >= side).all(axis=1)).tolist():
                yield f"{source.key} {index}", partial(source.tile, index)
        return
    for page in find_images(spec):
        height, width = page.shape()
        for y, x in itertools.product(range(0, height - side + 1, side), range(0, width - side + 1, side)):
            yield f"{page.name} at {y}, {x}", partial(_read_grey, page, y, x)


def _read_grey(page: Page, y: int = 0, x: int = 0) -> Pixels:
    return to_8_bit(page.read(), "percentile", page.what)[0][y:, x:]


def _read_mask(label: Page, image: Page) -> NDArray[np.bool_]:
    mask = nearly_two_values(label.read(as_values=True))
    if mask is None:
        raise UserError(
            f"{label.what} is no mask of two values (0 and 1, or 0 and 255): make one of the organelle alone"
        )
    if mask.shape != image.shape():
        raise UserError(
            f"sizes differ: {image.what} is {image.shape()} px and its mask {label.what} {mask.shape} px: they must "
            "show the same pixels"
        )
    if mask.all() or not mask.any():
        what = "full" if mask.all() else "empty"
        raise UserError(f"{label.what} is {what}, so nothing can be correlated with it: leave this image out")
    return mask


def make_folder(out: Path) -> None:
    """Make a folder with all above it.

    Raises:
        UserError: if that is not possible.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error


def write_results(
    out: Path,
    name: str,
    settings: Record,
    encoders: Sequence[Encoder],
    summary: Record,
    records: Sequence[Record],
    figures: Sequence[Figure],
) -> str:
    """Write the table, the description and the figures of an analysis.

    ``<name>.csv`` has all records in full precision, ``<name>.json`` settings and summary as well. One figure becomes
    ``<name>.png``, several ``<name>-1.png``, ….

    Args:
        out: Folder for the results.
        name: Name of the analysis.
        settings: Arguments and constants, JSON-ready.
        encoders: Encoders that were compared.
        summary: Summary by encoder, JSON-ready.
        records: Records with the same keys, one or more; NaN is left empty, and ``null`` in JSON.
        figures: Pages of the figure.

    Returns:
        Paths of all files, for the terminal.
    """
    table, description = out / f"{name}.csv", out / f"{name}.json"
    empty = [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}
        for record in records
    ]
    write_csv(table, empty)
    about = {each.name: each.record() for each in encoders}
    write_json(description, {"settings": settings, "encoders": about, "summary": summary, "records": records})
    pictures = [out / f"{name}{f'-{number}' if len(figures) > 1 else ''}.png" for number in range(1, len(figures) + 1)]
    for figure, path in zip(figures, pictures, strict=True):
        figure.savefig(path)
    return ", ".join(map(str, [table, description, *pictures]))
