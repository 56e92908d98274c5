"""Images, masks and encoders for analyses of features, and the tables that analyses write."""

import csv
import itertools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.images.grey import to_8_bit
from data_modules.images.pages import Page, find_images, pair
from data_modules.tile_set import SourceTiles, TileSet
from lightning_emseg.evaluation.reading import nearly_two_values
from lightning_emseg.features.encoder import Encoder, open_encoder

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Tile:
    name: str
    read: Callable[[], Pixels]


def open_encoders(specs: Sequence[str], images: Sequence[Pixels]) -> list[Encoder]:
    """Encoders from ``NAME=ENCODER``, on the GPU where there is one; see `open_encoder`.

    Args:
        specs: At least one; names are all different.
        images: Grey levels by which random encoders are normalised; if all have one size, networks that are made for
            one size are made for theirs, see `open_encoder`.

    Raises:
        UserError: if a name is missing or there twice, or an encoder cannot be made.
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    norms = _grey_norms(images)
    sizes = {(image.shape[0], image.shape[1]) for image in images}
    size = sizes.pop() if len(sizes) == 1 else None
    return [open_encoder(name, what, norms, size).to(device) for name, _, what in named]


def read_images(spec: str) -> list[tuple[str, Pixels]]:
    """Names and grey levels of all images of a folder or file; more than 8 bits by the percentiles of each image.

    Raises:
        UserError: if there are none, or one is damaged or coloured.
    """
    return [(page.name, _grey(page)) for page in find_images(spec)]


def read_pairs(images: str, labels: str) -> list[tuple[str, Pixels, NDArray[np.bool_]]]:
    """Names, grey levels and masks; files are matched by name, see :func:`data_modules.images.pages.pair`.

    Raises:
        UserError: if an image has no mask or a mask no image, sizes differ, or a mask is none, empty or full.
    """
    pages = find_images(images)
    partners = pair(pages, find_images(labels))
    return [(page.name, _grey(page), _mask(label, page)) for page, label in zip(pages, partners, strict=True)]


def choose_tiles(spec: str, number: int, side: int, seed: int, fewest: int) -> tuple[list[str], Pixels]:
    """Random tiles of a tile set, or of a grid over the images of a folder; smaller ones are left out.

    Args:
        spec: Folder of images, an image file, or a tile set, of whose tiles the upper left part is taken.
        number: Of tiles; all, with a warning, where there are fewer.
        side: Of a tile in px.
        seed: Of the choice.
        fewest: Number below which nothing can be measured.

    Returns:
        Names, and ``uint8 (N, side, side)``.

    Raises:
        UserError: if there are no images, or fewer than ``fewest`` tiles of that size.
    """
    found = _tiles_of_set(spec, side) if (Path(spec) / "sources").is_dir() else _tiles_of_images(spec, side)
    if len(found) < fewest:
        raise UserError(
            f"{spec} has {len(found)} tiles of {side} × {side} px, but at least {fewest} are needed: give more or "
            "larger images, or a smaller --size"
        )
    if len(found) < number:
        warnings.warn(f"{spec} has only {len(found)} tiles of {side} × {side} px: all are taken", stacklevel=2)
    chosen = np.random.default_rng(seed).permutation(len(found))[:number]
    tiles = [found[index] for index in sorted(chosen.tolist())]
    return [tile.name for tile in tiles], np.stack([tile.read() for tile in tiles])


def _tiles_of_images(spec: str, side: int) -> list[_Tile]:
    found = []
    for page in find_images(spec):
        height, width = page.shape()
        corners = itertools.product(range(0, height - side + 1, side), range(0, width - side + 1, side))
        found += [_Tile(f"{page.name} at {y}, {x}", partial(_part_of, page, y, x, side)) for y, x in corners]
    return found


def _tiles_of_set(spec: str, side: int) -> list[_Tile]:
    found = []
    for source in TileSet(spec).sources():
        large = np.flatnonzero((source.positions[:, 4:6] >= side).all(axis=1)).tolist()
        found += [_Tile(f"{source.source.name} {index}", partial(_corner_of, source, index, side)) for index in large]
    return found


def _part_of(page: Page, y: int, x: int, side: int) -> Pixels:
    return _grey(page)[y : y + side, x : x + side]


def _corner_of(source: SourceTiles, index: int, side: int) -> Pixels:
    return source.tile(index)[:side, :side]


def _grey(page: Page) -> Pixels:
    return to_8_bit(page.read(), "percentile", page.what).pixels


def _mask(label: Page, image: Page) -> NDArray[np.bool_]:
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


def _grey_norms(images: Sequence[Pixels]) -> tuple[float, float]:
    counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)
    levels = np.arange(256)
    mean = float(np.average(levels, weights=counts))
    std = float(np.sqrt(np.average((levels - mean) ** 2, weights=counts)))
    if std == 0:
        raise UserError(f"all pixels of the images have grey level {mean:g}: nothing can be seen in them")
    return mean, std


Record = Mapping[str, Any]


def make_folder(out: Path) -> None:
    """Make the folder with all above it.

    Raises:
        UserError: if that is not possible.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error


def write_numbers(
    out: Path, name: str, settings: Record, encoders: Sequence[Encoder], summary: Record, records: Sequence[Record]
) -> str:
    """Write ``<name>.csv`` with all records in full precision, and ``<name>.json`` with settings and summary as well.

    Args:
        out: The folder.
        name: Of the analysis.
        settings: Arguments and constants, JSON-ready.
        encoders: That were compared.
        summary: By encoder, JSON-ready.
        records: At least one, all with the same keys; NaN is left empty, and ``null`` in JSON.

    Returns:
        Paths of both, for the terminal.
    """
    table, description = out / f"{name}.csv", out / f"{name}.json"
    known = [{key: _or_none(value) for key, value in record.items()} for record in records]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, known[0])
        writer.writeheader()
        writer.writerows(known)
    content = {
        "settings": settings,
        "encoders": {each.name: each.record() for each in encoders},
        "summary": {key: {name: _or_none(value) for name, value in row.items()} for key, row in summary.items()},
        "records": known,
    }
    description.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return f"{table}, {description}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def pages(out: Path, name: str, rows: int, most: int) -> list[tuple[Path, slice]]:
    """Files of a figure with many rows, and the rows of each: ``<name>.png``, or ``<name>-1.png``, ….

    >>> [(path.name, rows.start, rows.stop) for path, rows in pages(Path(), "a", 3, 2)]
    [('a-1.png', 0, 2), ('a-2.png', 2, 4)]
    """
    starts = range(0, rows, most)
    numbers = [""] if len(starts) == 1 else [f"-{number + 1}" for number in range(len(starts))]
    return [
        (out / f"{name}{number}.png", slice(start, start + most)) for number, start in zip(numbers, starts, strict=True)
    ]


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
