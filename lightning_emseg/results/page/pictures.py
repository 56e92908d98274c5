"""Pictures as data URIs, reduced until all of them together fit."""

import base64
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from data_modules.errors import UserError

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
