"""Run folders and attribution studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import UserError
from lightning_emseg.attribution.areas import AREA, VOLUME, Extent
from lightning_emseg.results.files import (
    Scores,
    TrainingCurve,
    attempt,
    json_object,
    number,
    read_log,
    read_scores,
    records,
)

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


STUDY_FILE = "summary.json"


@dataclass(frozen=True)
class Area:
    """Mean area, in volumes mean volume, S_k of the fields of one kind of pixels.

    Attributes:
        outcome: ``TP``, ``FP``, ``FN``, ``TN`` or ``all``.
        threshold: k.
        pixels: Number of pixels.
        extent: What S_k is.
        size: Mean S_k in nm², in volumes nm³.
        se: Its standard error, NaN where it has none.
        share: Mean share of the window.
        completeness: Mean error of completeness, relative to F(x) − F(x').
        epoch: During a fit; NaN in a study.
    """

    outcome: str
    threshold: float
    pixels: int
    extent: Extent
    size: float
    se: float
    share: float
    completeness: float
    epoch: float = float("nan")


@dataclass(frozen=True)
class AreaStudy:
    """Attribution of one network.

    Attributes:
        name: Of the study's folder, or of the run and verb.
        areas: At the thresholds of the table.
        curve: At many thresholds; none from a callback.
        method: What was computed, by name of setting.
        panels: Picture files.
    """

    name: str
    areas: tuple[Area, ...]
    curve: tuple[Area, ...]
    method: Mapping[str, Any]
    panels: tuple[Path, ...]

    @property
    def extent(self) -> Extent:
        """What S_k is of all of its fields."""
        return next((area.extent for area in (*self.areas, *self.curve)), AREA)

    @property
    def latest(self) -> tuple[Area, ...]:
        """Areas of the last epoch, where there are several."""
        epochs = [area.epoch for area in self.areas if area.epoch == area.epoch]
        return tuple(area for area in self.areas if not epochs or area.epoch == max(epochs))


def read_study(folder: Path) -> AreaStudy:
    """Read a finished study of ``emseg attribute``.

    Raises:
        ValueError: if the file or a number is not as expected.
        KeyError: if a part is missing.
    """
    found = json_object(folder / STUDY_FILE)
    panels = tuple(path for path in (folder / "panels.png",) if path.is_file())
    return AreaStudy(
        name=folder.resolve().name,
        areas=tuple(map(_area_of_study, found["summary"])),
        curve=tuple(map(_area_of_study, found["curve"])),
        method=_settings(found.get("method", {})),
        panels=panels,
    )


def read_run_attribution(folder: Path, notes: list[str]) -> tuple[AreaStudy, ...]:
    """What the attribution callback left in a run folder, one study a verb.

    Args:
        folder: Of the run.
        notes: Gets a sentence for each file that cannot be read.
    """
    studies = []
    for path in sorted((folder / "attribution").glob("summary-*.csv")):
        verb = path.stem.removeprefix("summary-")
        areas = attempt(lambda file: tuple(map(_area_of_callback, records(file))), path, notes)
        settings = attempt(json_object, path.with_name(f"{verb}.json"), notes) or {}
        pattern = "attribution-epoch-*.png" if verb == "fit" else f"attribution-{verb}*.png"
        # Of a fit the last epoch's alone, as there is one an epoch.
        panels = sorted((folder / "figures").glob(pattern))[-1 if verb == "fit" else 0 :]
        if areas:
            studies.append(AreaStudy(verb, areas, (), _settings(settings), tuple(panels)))
    return tuple(studies)


def _area_of_study(record: Mapping[str, Any]) -> Area:
    extent = VOLUME if f"{VOLUME.quantity}_{VOLUME.unit}" in record else AREA
    return Area(
        str(record["outcome"]),
        number(record["threshold"]),
        int(record["pixels"]),
        extent,
        number(record[f"{extent.quantity}_{extent.unit}"]),
        number(record.get(f"{extent.quantity}_se")),
        number(record["share"]),
        number(record["completeness"]),
    )


def _area_of_callback(record: Mapping[str, str]) -> Area:
    extent = VOLUME if VOLUME.column in record else AREA
    return Area(
        record["outcome"],
        number(record["k"]),
        int(record["pixels"]),
        extent,
        number(record[extent.column]),
        number(record.get(f"{extent.column}_se")),
        number(record["share"]),
        number(record.get("relative_completeness_error")),
        number(record.get("epoch")),
    )


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """Those that fit on a line."""
    return {key: value for key, value in found.items() if not isinstance(value, dict | list)}


VERBS = ("test", "validate")
"""That score whole mosaics; the first one with scores is what a page shows first."""
_ORDER = ("fit", "validate", "test", "predict")
_SIGNS = ("config*.yaml", "environment*.json", "metrics.csv", "scores-*.json")


@dataclass(frozen=True)
class RunFolder:
    """One run.

    Attributes:
        name: Of its folder, with as many parents as make it different from the other runs'.
        folder: Of the run.
        config: Resolved settings, of the fit where it has any.
        config_texts: Config files by name, as they were written.
        environments: Contents of ``environment*.json`` by verb.
        curves: During training; empty without a log.
        scores: By verb.
        errors: By verb.
        figures: Overlays, without those of attribution.
        attribution: Of the callback.
        notes: What could not be read.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    config_texts: Mapping[str, str]
    environments: Mapping[str, Mapping[str, Any]]
    curves: tuple[TrainingCurve, ...]
    scores: Mapping[str, Scores]
    errors: Mapping[str, tuple[MosaicErrors, ...]]
    figures: tuple[Path, ...]
    attribution: tuple[AreaStudy, ...]
    notes: tuple[str, ...]

    def class_name(self, part: str) -> str:
        """Name of the class that the config gives for ``model`` or ``data``; empty where it does not say."""
        section = self.config.get(part)
        return str(section.get("class_path", "")).rpartition(".")[2] if isinstance(section, dict) else ""


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Read run folders.

    Raises:
        UserError: if a folder does not exist, is given twice, or holds nothing that a run leaves behind.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give run folders, as default_root_dir of `lightning fit` names")
        if not any(next(folder.glob(sign), None) for sign in _SIGNS):
            raise UserError(f"{folder} is no run folder: it holds none of {', '.join(_SIGNS)}")
        if resolved.count(path) > 1:
            raise UserError(f"{folder} was given twice: give each run once")
    return [_read(folder, name) for folder, name in zip(folders, short_names(resolved), strict=True)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """As many last parts of each of several different paths as make them different.

    >>> short_names([Path("/a/x"), Path("/b/x")])
    ['a/x', 'b/x']
    """
    count = 1
    while len({path.parts[-count:] for path in paths}) < len(paths):
        count += 1
    return [str(Path(*path.parts[-count:])) for path in paths]


def _read(folder: Path, name: str) -> RunFolder:
    notes: list[str] = []
    texts = {path.name: attempt(Path.read_text, path, notes) for path in sorted(folder.glob("config*.yaml"))}
    configs = {path.name: attempt(_config, path, notes) for path in sorted(folder.glob("config*.yaml"))}
    environments = {
        path.name: attempt(json_object, path, notes) for path in map(folder.joinpath, map(_environment_file, _ORDER))
    }
    scores = {verb: attempt(read_scores, folder / f"scores-{verb}.json", notes) for verb in VERBS}
    errors = {verb: attempt(read_errors, folder / f"errors-{verb}" / "index.json", notes) for verb in VERBS}
    figures = [path for path in sorted((folder / "figures").glob("*.png")) if not path.stem.startswith("attribution")]
    return RunFolder(
        name=name,
        folder=folder,
        # Sorted by name, config.yaml comes behind config-test.yaml.
        config=next((found for found in [configs.get("config.yaml"), *configs.values()] if found), {}),
        config_texts={key: text for key, text in texts.items() if text is not None},
        environments={verb: found for verb in _ORDER if (found := environments.get(_environment_file(verb)))},
        curves=attempt(read_log, folder / "metrics.csv", notes) or (),
        scores={verb: found for verb, found in scores.items() if found is not None},
        errors={verb: found for verb, found in errors.items() if found},
        figures=tuple(figures),
        attribution=read_run_attribution(folder, notes),
        notes=tuple(notes),
    )


def _environment_file(verb: str) -> str:
    return "environment.json" if verb == "fit" else f"environment-{verb}.json"


def _config(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    if not isinstance(found, dict):
        raise ValueError("it holds no settings")
    return found
