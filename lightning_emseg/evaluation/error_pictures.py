"""Pictures and figures of a mosaic's errors: their writer, and the reader of an ``index.json`` of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.core.pictures import FALSE_NEGATIVE, FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, Picture
from lightning_emseg.core.tables import read_json, to_number
from lightning_emseg.evaluation.errors import (
    Codes,
    ErrorAnalysis,
    ErrorObject,
    PixelOutcome,
    analyse,
    count_outcomes,
    find_outcome,
    find_real_errors,
    reduce_codes,
    worst_regions,
)
from lightning_emseg.metrics.mosaic_pair import MosaicPair

Colour = tuple[int, int, int]

COLOURS: Mapping[PixelOutcome, Colour] = {
    PixelOutcome.TRUE_POSITIVE: TRUE_POSITIVE,
    PixelOutcome.TOLERATED_FALSE_POSITIVE: (250, 215, 130),
    PixelOutcome.TOLERATED_FALSE_NEGATIVE: (214, 170, 225),
    PixelOutcome.FALSE_POSITIVE: FALSE_POSITIVE,
    PixelOutcome.FALSE_NEGATIVE: FALSE_NEGATIVE,
}
"""Orange false positives and pink false negatives as in Figure 6 of the U-RISC paper (Frontiers in Neuroscience 2022);
lighter where they are within the tolerance. Colour-blind readers can tell all of them apart, and from the image."""
GREYS = 32
"""Levels left to the image, which makes small files."""
DARKEST = 205
"""Grey level of the faded image's black: darker ones would be taken for a colour by the colour blind."""


def draw_errors(codes: Codes, image: Picture) -> Image.Image:
    """Paint outcomes over the faded image, which shows through the background.

    Args:
        codes: Error map ``uint8 (Y, X)``.
        image: Grey ``uint8 (Y, X)``.

    Returns:
        A picture with a palette, of the same size.
    """
    table = np.zeros(256, np.uint8)
    palette = [(round(grey),) * 3 for grey in np.linspace(DARKEST, 255, GREYS)]
    for value, colour in (*COLOURS.items(), (IGNORE, IGNORED)):
        table[value] = len(palette)
        palette.append(colour)
    index = np.where(find_outcome(codes, PixelOutcome.TRUE_NEGATIVE), image // (256 // GREYS), table[codes])
    picture = Image.fromarray(index.astype(np.uint8)).convert("P")
    picture.putpalette([channel for colour in palette for channel in colour])
    return picture


Entry = dict[str, Any]
LONGEST_PX = 1536
"""Longest side of the pictures of a whole mosaic."""
REGION_PX = 256
REGIONS = 6
LISTED = 20
"""Number of breaks and of spurious membranes that are listed; all are counted."""
_QUALITY = 85
"""Quality of JPEG: smaller ones show blocks in electron micrographs."""
_WHOLE_FILES = {"image": "image.jpg", "truth": "truth.png", "probability": "probability.jpg", "errors": "errors.png"}


def write_error_files(
    folder: Path,
    key: str,
    image: Picture,
    truth: NDArray[np.uint8],
    probability: NDArray[np.uint8],
    level: int,
    pixel_size_nm: Sequence[float],
    tolerance_nm: float,
) -> tuple[Entry, ErrorAnalysis]:
    """Analyse a mosaic and write pictures of its errors, of the whole and of the worst regions.

    Args:
        folder: Folder that gets a folder ``<split>__<sample>``, in which earlier files are replaced.
        key: ``<split>/<sample>``.
        image: Grey ``uint8``, ``(Y, X)`` or ``(Z, Y, X)``. Of a volume the section with the most real errors is
            shown, and regions are windows of it; all figures are of the volume.
        truth: ``uint8``: 0, 1, or 255 where nothing is known.
        probability: ``uint8``, 255 for certain foreground.
        level: Quantised threshold, 0–255: pixels of at least ``level`` are foreground.
        pixel_size_nm: One value an axis.
        tolerance_nm: Distance up to which an error is one of thickness, in nm.

    Returns:
        The analysis, and before it a JSON-ready entry: ``key``, ``pixel_size_nm``, ``shape_px``, ``section`` (the shown
        one of a volume, else null), ``scale`` (shown px for one of the mosaic), ``threshold``, ``tolerance_nm``,
        ``files`` (paths below ``folder``), ``pixels`` (``tp``, ``fp``, ``fn``, ``tn``, and how many of the errors are
        within the tolerance), ``breaks`` and ``spurious`` (``count``, of breaks ``per_mm`` of the truth's skeleton, and
        the ``worst``), ``regions``. Null stands for what does not exist: breaks and lengths in a volume, a rate without
        any true membrane.

    Raises:
        UserError: if shapes, types or values do not fit each other, nothing of the truth is known, or a file cannot
            be written.
    """
    _check(key, image, truth, probability, pixel_size_nm)
    # The pair is not kept: its distances take 8 bytes a pixel.
    found = analyse(MosaicPair(truth, probability, level, pixel_size_nm), tolerance_nm)
    section = int(np.count_nonzero(find_real_errors(found.codes), axis=(1, 2)).argmax()) if image.ndim == 3 else None
    planes = [image, truth, probability, found.codes]
    if section is not None:
        planes = [plane[section] for plane in planes]
    step = -(-max(planes[0].shape) // LONGEST_PX)
    name = re.sub(r"[^\w.-]+", "_", key.replace("/", "__"))
    try:
        regions = _write_pictures(folder, name, planes, step)
    except OSError as error:
        raise UserError(f"{folder / name}: pictures of {key} cannot be written: {error}") from error
    entry = {
        "key": key,
        "pixel_size_nm": list(pixel_size_nm),
        "shape_px": list(image.shape),
        "section": section,
        "scale": 1 / step,
        "threshold": level / 255,
        "tolerance_nm": tolerance_nm,
        "files": {view: f"{name}/{file}" for view, file in _WHOLE_FILES.items()},
        **_describe_errors(found),
        "regions": regions,
    }
    return entry, found


def _write_pictures(folder: Path, name: str, planes: Sequence[NDArray[np.uint8]], step: int) -> list[Entry]:
    """Write the pictures of the whole and of the worst regions; returns the entries of the regions."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for earlier in (folder / name).glob("region-*.png"):
        earlier.unlink()
    _save_views(folder / name, _WHOLE_FILES, planes, step)
    regions = []
    for number, region in enumerate(worst_regions(planes[3], REGION_PX, REGIONS), 1):
        files = {view: f"region-{number}-{view}.png" for view in _WHOLE_FILES}
        _save_views(folder / name, files, [plane[region.slices] for plane in planes], 1)
        regions.append(
            {
                "origin_px": list(region.origin),
                "size_px": list(region.size),
                "error_px": region.error_px,
                "files": {view: f"{name}/{file}" for view, file in files.items()},
            }
        )
    return regions


def _describe_errors(found: ErrorAnalysis) -> Entry:
    breaks = None
    if found.breaks is not None:
        count = len(found.breaks.found)
        breaks = {
            **_listed(found.breaks.found),
            "per_mm": count / found.skeleton_nm * 1e6 if found.skeleton_nm else None,
        }
    counts = count_outcomes(found.codes)
    near_positive = counts[PixelOutcome.TOLERATED_FALSE_POSITIVE]
    near_negative = counts[PixelOutcome.TOLERATED_FALSE_NEGATIVE]
    pixels = {
        "tp": counts[PixelOutcome.TRUE_POSITIVE],
        "fp": counts[PixelOutcome.FALSE_POSITIVE] + near_positive,
        "fn": counts[PixelOutcome.FALSE_NEGATIVE] + near_negative,
        "tn": counts[PixelOutcome.TRUE_NEGATIVE],
        "fp_within_tolerance": near_positive,
        "fn_within_tolerance": near_negative,
    }
    return {"pixels": pixels, "breaks": breaks, "spurious": _listed(found.spurious.found)}


def _check(key: str, image: Picture, truth: Picture, probability: Picture, pixel_size_nm: Sequence[float]) -> None:
    arrays = {"image": image, "truth": truth, "probability": probability}
    for what, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape != image.shape or not array.size:
            raise UserError(
                f"{key}: {what} is {array.dtype} of {array.shape} px beside an image of {image.shape} px; image, truth "
                "and probability have to be uint8 of one shape, (Y, X) or (Z, Y, X)"
            )
    if len(pixel_size_nm) != image.ndim or not all(math.isfinite(size) and size > 0 for size in pixel_size_nm):
        raise UserError(f"{key}: pixel_size_nm is {tuple(pixel_size_nm)}: give a size above 0 for {image.ndim} axes")
    background, foreground, ignored = (int(np.count_nonzero(truth == value)) for value in (0, 1, IGNORE))
    if background + foreground + ignored != truth.size:
        raise UserError(f"{key}: the truth has other values than 0, 1 and {IGNORE} (unknown): make it binary first")
    if ignored == truth.size:
        raise UserError(f"{key}: all pixels of the truth are {IGNORE} (unknown): leave this mosaic out")


def _save_views(folder: Path, files: Mapping[str, str], planes: Sequence[NDArray[np.uint8]], step: int) -> None:
    """Write image, truth, probability and errors, reduced by a whole number; JPEG or PNG by the ending.

    The first three are means over blocks of ``step`` × ``step`` px, errors as
    :func:`lightning_emseg.evaluation.errors.reduce_codes` has them.

    Args:
        folder: Folder that exists.
        files: Names by view.
        planes: Image, truth, probability and error map ``uint8 (Y, X)``.
        step: Side of a block in px, at least 1.
    """
    image, truth, probability, codes = planes
    shown = np.zeros(256, np.uint8)
    shown[1], shown[IGNORE] = 255, IGNORED[0]
    greys = {"image": image, "truth": shown[truth], "probability": probability}
    views = {name: Image.fromarray(grey).reduce(step) for name, grey in greys.items()}
    views["errors"] = draw_errors(reduce_codes(codes, step), np.asarray(views["image"]))
    for name, view in views.items():
        view.save(folder / files[name], quality=_QUALITY, optimize=True)


def _listed(found: Sequence[ErrorObject]) -> Entry:
    worst = [
        {
            "centre_px": [round(place, 1) for place in one.centre_px],
            "box_px": [list(corner) for corner in one.box_px],
            "size_px": one.size_px,
            "size_nm": one.size_nm,
            "length_nm": None if math.isnan(one.length_nm) else one.length_nm,
        }
        for one in found[:LISTED]
    ]
    return {"count": len(found), "worst": worst}


Layers = Mapping[str, Path]
"""Picture files by name of layer."""
WorstObject = tuple[float, float, float]
"""Row and column in px and length in nm of a break or spurious membrane; NaN where it was not measured."""


@dataclass(frozen=True)
class WorstRegion:
    """Window with many errors: origin and size in px, wrong pixels beyond the tolerance, and its pictures."""

    origin_px: tuple[int, int]
    size_px: tuple[int, int]
    error_px: int
    layers: Layers


@dataclass(frozen=True)
class MosaicErrors:
    """Errors in one mosaic.

    Attributes:
        key: ``<split>/<sample>``.
        shape_px: Height and width.
        section: Section of a volume that is shown, else ``None``.
        threshold: Probability from which on a pixel was foreground.
        tolerance_nm: Width of the band in which errors are of thickness alone.
        layers: Pictures of the whole mosaic, those that exist.
        pixels: Numbers of pixels by outcome.
        breaks: Number of breaks of true membranes; NaN where they were not looked for, as in a volume.
        breaks_per_mm: Breaks in a millimetre of true membrane; NaN where it was not measured.
        spurious: Number of membranes that the truth does not have.
        worst: Largest objects by kind, ``break`` and ``spurious membrane``.
        regions: Windows with most errors, worst first.
    """

    key: str
    shape_px: tuple[int, int]
    section: int | None
    threshold: float
    tolerance_nm: float
    layers: Layers
    pixels: Mapping[str, int]
    breaks: float
    breaks_per_mm: float
    spurious: float
    worst: Mapping[str, Sequence[WorstObject]]
    regions: Sequence[WorstRegion]


def read_errors(path: Path) -> list[MosaicErrors]:
    """Read an ``index.json`` of error maps; files are named relative to its folder, and none outside of it is taken."""
    root = path.parent.resolve()

    def layers(files: Mapping[str, str]) -> Layers:
        paths = {name: path.parent / files[name] for name in _WHOLE_FILES if name in files}
        return {name: each for name, each in paths.items() if each.resolve().is_relative_to(root) and each.is_file()}

    # Of a volume the files show one section, so that the last two axes count.
    return [
        MosaicErrors(
            key=str(entry["key"]),
            shape_px=_pair(entry["shape_px"]),
            section=entry.get("section"),
            threshold=to_number(entry["threshold"]),
            tolerance_nm=to_number(entry["tolerance_nm"]),
            layers=layers(entry["files"]),
            pixels={str(name): int(count) for name, count in entry["pixels"].items()},
            breaks=to_number((entry.get("breaks") or {}).get("count")),
            breaks_per_mm=to_number((entry.get("breaks") or {}).get("per_mm")),
            spurious=to_number((entry.get("spurious") or {}).get("count")),
            worst={
                kind: [_place(each) for each in (entry.get(part) or {}).get("worst", [])]
                for kind, part in (("break", "breaks"), ("spurious membrane", "spurious"))
            },
            regions=[
                WorstRegion(
                    _pair(each["origin_px"]), _pair(each["size_px"]), int(each["error_px"]), layers(each["files"])
                )
                for each in entry.get("regions", [])
            ],
        )
        for entry in read_json(path)["mosaics"]
    ]


def _place(entry: Mapping[str, Any]) -> WorstObject:
    y, x = map(to_number, entry["centre_px"][-2:])
    return y, x, to_number(entry.get("length_nm"))


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    return int(values[-2]), int(values[-1])
