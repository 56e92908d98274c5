"""Error maps of mosaics and their worst regions, from ``errors-<verb>/index.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning_emseg.report.page.reading import json_object, number

LAYERS = ("image", "truth", "probability", "errors")
Layers = Mapping[str, Path]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Region:
    """A window with many errors.

    Attributes:
        origin_px: First row and column in the mosaic.
        size_px: Height and width.
        error_px: Pixels that are wrong beyond the tolerance.
        layers: Picture files by name of layer, those that exist.
    """

    origin_px: Pair
    size_px: Pair
    error_px: int
    layers: Layers


@dataclass(frozen=True)
class Fault:
    """A break of a true membrane, or a spurious membrane.

    Attributes:
        centre_px: Row and column in the mosaic.
        length_nm: NaN where it was not measured.
    """

    centre_px: tuple[float, float]
    length_nm: float


@dataclass(frozen=True)
class Faults:
    """All breaks of a mosaic, or all spurious membranes.

    Attributes:
        count: How many there are; NaN where they were not looked for, as breaks in a volume.
        per_mm: Of true membrane; NaN where it was not measured.
        worst: Largest first.
    """

    count: float
    per_mm: float
    worst: tuple[Fault, ...]


@dataclass(frozen=True)
class MosaicErrors:
    """Errors in one mosaic.

    Attributes:
        key: ``<split>/<sample>``.
        shape_px: Height and width.
        section: Of a volume the one that is shown, else ``None``.
        threshold: Probability from which on a pixel was foreground.
        tolerance_nm: Width of the band in which errors are of thickness alone.
        layers: Pictures of the whole mosaic by name of layer, those that exist.
        pixels: Numbers of pixels by outcome.
        breaks: Of true membranes.
        spurious: Membranes that the truth does not have.
        regions: Worst first.
    """

    key: str
    shape_px: Pair
    section: int | None
    threshold: float
    tolerance_nm: float
    layers: Layers
    pixels: Mapping[str, int]
    breaks: Faults
    spurious: Faults
    regions: tuple[Region, ...]


def read_errors(path: Path) -> tuple[MosaicErrors, ...]:
    """Read an ``index.json``; files are named relative to its folder, and none outside of it is taken.

    Raises:
        ValueError: if the file or a number is not as expected.
        KeyError: if a part is missing.
    """
    return tuple(map(partial(_mosaic, path.parent), json_object(path)["mosaics"]))


def _mosaic(folder: Path, entry: Mapping[str, Any]) -> MosaicErrors:
    return MosaicErrors(
        key=str(entry["key"]),
        shape_px=_pair(entry["shape_px"]),
        section=entry.get("section"),
        threshold=number(entry["threshold"]),
        tolerance_nm=number(entry["tolerance_nm"]),
        layers=_layers(folder, entry["files"]),
        pixels={str(name): int(count) for name, count in entry["pixels"].items()},
        breaks=_faults(entry.get("breaks")),
        spurious=_faults(entry.get("spurious")),
        regions=tuple(
            Region(
                _pair(each["origin_px"]), _pair(each["size_px"]), int(each["error_px"]), _layers(folder, each["files"])
            )
            for each in entry.get("regions", [])
        ),
    )


def _faults(entry: Mapping[str, Any] | None) -> Faults:
    if entry is None:
        return Faults(float("nan"), float("nan"), ())
    worst = [
        Fault((number(each["centre_px"][-2]), number(each["centre_px"][-1])), number(each.get("length_nm")))
        for each in entry.get("worst", [])
    ]
    return Faults(number(entry["count"]), number(entry.get("per_mm")), tuple(worst))


def _layers(folder: Path, files: Mapping[str, str]) -> Layers:
    paths = {name: folder / files[name] for name in LAYERS if name in files}
    root = folder.resolve()
    return {name: path for name, path in paths.items() if path.resolve().is_relative_to(root) and path.is_file()}


def _pair(values: Any) -> Pair:
    # Of a volume the files show one section.
    return int(values[-2]), int(values[-1])
