"""The page as one HTML text without external resources, pictures included."""

import base64
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from data_modules.errors import UserError
from lightning_emseg import __version__
from lightning_emseg.core.pictures import IGNORED
from lightning_emseg.evaluation.error_pictures import COLOURS
from lightning_emseg.evaluation.errors import MEANINGS
from lightning_emseg.results.page.scores import comparisons, score_section
from lightning_emseg.results.page.sections import (
    attribution_section,
    error_paths,
    error_section,
    settings_section,
    training_section,
)
from lightning_emseg.results.page.tables import count
from lightning_emseg.results.runs import AreaStudy, CollectedRun

_LEGEND = {**{MEANINGS[outcome]: colour for outcome, colour in COLOURS.items()}, "ignored": IGNORED}
_SECTIONS = {
    "settings": "What ran",
    "training": "Training",
    "scores": "Scores",
    "comparing": "Side by side",
    "errors": "Errors",
    "attribution": "Attribution",
    "quality": "Definition",
}
LARGEST_PX = 1536
"""Longest side; what the error analysis writes."""
_SMALLEST_PX = 96
_EFFORT = 2
"""Of WebP, 0–6; more takes two to three times as long for 2 % fewer bytes."""
_FLAT = 64
"""A picture of so few colours is a mask or an error map: lossless is smaller and keeps its edges."""


@dataclass(frozen=True)
class EmbeddedPicture:
    """Picture as part of a page.

    Attributes:
        uri: ``data:image/…;base64,…``.
        width: Width in px, after reduction.
        height: Height in px, after reduction.
    """

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Album:
    """Pictures of a page.

    Attributes:
        pictures: Pictures by file; those that could not be read are not there.
        side_px: Longest side they were reduced to.
        notes: Sentence for each file that could not be read.
    """

    pictures: Mapping[Path, EmbeddedPicture]
    side_px: int
    notes: tuple[str, ...]

    @property
    def size_mb(self) -> float:
        """Size of all data URIs, in 10⁶ bytes."""
        return sum(len(picture.uri) for picture in self.pictures.values()) / 1e6

    @property
    def is_reduced(self) -> bool:
        """Whether pictures were made smaller than usual to fit."""
        return self.side_px < LARGEST_PX


def make_page(
    runs: Sequence[CollectedRun], studies: Sequence[AreaStudy], quality: Sequence[Mapping[str, Any]], max_mb: float
) -> tuple[str, Album, list[str]]:
    """Make the page of some runs.

    Args:
        runs: Collected runs, at least one; others are compared with the first.
        studies: Attribution studies.
        quality: Tables of image definition criteria, from :func:`.sections.quality_tables`.
        max_mb: Limit of all pictures together, in 10⁶ bytes.

    Returns:
        The HTML text, the pictures in it, and sentences about what could not be read or shown.

    Raises:
        UserError: if the pictures do not fit into the limit.
    """
    errors, attribution = error_section(runs), attribution_section(runs, studies)
    panels = [path for part in attribution["parts"] for path in part["panels"]]
    album = embed([*error_paths(errors), *panels], max_mb)
    notes = [*(note for run in runs for note in run.notes), *album.notes]
    several = len(runs) > 1
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html").render(
        heading=f"{'Runs' if several else 'Run'} {', '.join(run.name for run in runs)}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        album=album.pictures,
        album_text=album_text(album),
        notes=notes,
        sections={key: title for key, title in _SECTIONS.items() if several or key != "comparing"},
        folders={run.name: str(run.folder) for run in runs},
        settings=settings_section(runs),
        training=training_section(runs),
        scores=score_section(runs),
        comparing=comparisons(runs),
        errors=errors,
        colours=_LEGEND,
        attribution=attribution,
        quality=quality,
    )
    return html, album, notes


def album_text(album: Album) -> str:
    """Describe number and size of the pictures in a sentence."""
    if not album.pictures:
        return "It has no pictures."
    side = f"at most {album.side_px:,} px along the longer side"
    told = f"It holds {count(len(album.pictures), 'picture')} of {side}, {album.size_mb:.1f} MB together"
    return told + (", reduced to fit (--max-mb)." if album.is_reduced else ".")


def embed(paths: Iterable[Path], max_mb: float) -> Album:
    """Embed picture files: masks and error maps as lossless WebP, grey as WebP, colours as JPEG with full colour.

    Args:
        paths: Files, of which each may occur more than once.
        max_mb: Limit of all data URIs together, in 10⁶ bytes.

    Raises:
        UserError: if the pictures do not fit even with 96 px along the longer side.
    """
    wanted, side = list(dict.fromkeys(paths)), LARGEST_PX
    while True:
        album = _embed(wanted, side)
        if album.size_mb <= max_mb:
            return album
        if side == _SMALLEST_PX:
            raise UserError(
                f"--max-mb {max_mb:g} is too little for {len(wanted)} pictures: give at least {album.size_mb:.1f}"
            )
        shown = max(max(picture.width, picture.height) for picture in album.pictures.values())
        # Bytes grow more slowly than the square of the side, hence a little less than the root.
        side = max(_SMALLEST_PX, math.floor(0.9 * min(side, shown) * math.sqrt(max(max_mb, 0) / album.size_mb)))


def _embed(paths: Sequence[Path], side: int) -> Album:
    # Pillow lets other threads work while it decodes and encodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, pool.map(partial(_read, side=side), paths), strict=True))
    notes = [f"{path} cannot be shown: {error}" for path, error in found.items() if isinstance(error, Exception)]
    pictures = {path: picture for path, picture in found.items() if isinstance(picture, EmbeddedPicture)}
    return Album(pictures, side, tuple(notes))


def _read(path: Path, side: int) -> EmbeddedPicture | Exception:
    try:
        with Image.open(path) as opened:
            is_grey = opened.mode in ("1", "L", "I;16")
            image = opened.convert("L" if is_grey else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return error
    # Reduction would make many colours out of few.
    is_flat = max(image.size) <= side and image.getcolors(_FLAT) is not None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if is_flat or is_grey:
        kind = "webp"
        image.save(file, "WEBP", lossless=is_flat, quality=20 if is_flat else 80, method=_EFFORT)
    else:
        kind = "jpeg"
        # Thin coloured lines would lose their colour to the usual subsampling of it.
        image.save(file, "JPEG", quality=85, subsampling=0)
    code = base64.b64encode(file.getvalue()).decode()
    return EmbeddedPicture(f"data:image/{kind};base64,{code}", image.width, image.height)
