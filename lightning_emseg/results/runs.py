"""Run folders and attribution studies, read back as the framework writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from lightning_emseg.attribution.areas import AREA, VOLUME, Extent
from lightning_emseg.core.tables import read_csv
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.results.files import (
    Read,
    RunFileError,
    TrainingCurve,
    environment_file,
    read_file,
    read_log,
    read_object,
    to_number,
)

Layers = Mapping[str, Path]
"""Picture files by name of layer."""
ErrorObject = tuple[float, float, float]
"""Row and column in px and length in nm of a break or spurious membrane; NaN where it was not measured."""

VERBS = ("test", "validate")
"""Verbs that score whole mosaics; the first one with scores is what a page shows first."""
LAYERS = ("image", "truth", "probability", "errors")
STUDY_FILE = "summary.json"
_ORDER = ("fit", "validate", "test", "predict")
_SIGNS = ("config*.yaml", "environment*.json", "metrics.csv", "scores-*.json")


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
    worst: Mapping[str, Sequence[ErrorObject]]
    regions: Sequence[WorstRegion]


@dataclass(frozen=True)
class MeanArea:
    """Mean area, in volumes mean volume, S_k of the attribution fields of one kind of pixels.

    Attributes:
        outcome: ``TP``, ``FP``, ``FN``, ``TN`` or ``all``.
        threshold: k.
        pixels: Number of pixels.
        extent: Kind of S_k.
        size: Mean S_k in nm², in volumes nm³.
        se: Its standard error, NaN where it has none.
        share: Mean share of the window.
        completeness: Mean error of completeness, relative to F(x) − F(x').
        epoch: Epoch of a fit; NaN in a study.
    """

    outcome: str
    threshold: float
    pixels: int
    extent: Extent
    size: float
    se: float
    share: float
    completeness: float
    epoch: float


@dataclass(frozen=True)
class AreaStudy:
    """Attribution of one network.

    Attributes:
        name: Name of the study's folder, or of the run's verb.
        areas: Sizes at the thresholds of the table.
        curve: Sizes at many thresholds; none from a callback.
        method: Settings that fit on a line, by name.
        panels: Picture files.
    """

    name: str
    areas: Sequence[MeanArea]
    curve: Sequence[MeanArea]
    method: Mapping[str, Any]
    panels: Sequence[Path]

    @property
    def extent(self) -> Extent:
        """Kind of S_k of all of its fields."""
        return next((area.extent for area in (*self.areas, *self.curve)), AREA)

    @property
    def latest(self) -> list[MeanArea]:
        """Sizes of the last epoch, where there are several."""
        epochs = [area.epoch for area in self.areas if area.epoch == area.epoch]
        return [area for area in self.areas if not epochs or area.epoch == max(epochs)]


@dataclass(frozen=True)
class CollectedRun:
    """Files of one run; those that are missing or damaged are left out.

    Attributes:
        name: Name of its folder, with as many parents as make it different from the other runs'.
        folder: Path of the folder.
        config: Resolved settings, those of the fit if there are any.
        config_texts: Config files by name, as they were written.
        environments: Contents of ``environment*.json`` by verb.
        curves: Training curves; empty without a log.
        scores: Scores of whole mosaics by verb.
        errors: Errors by verb.
        figures: Overlays.
        attribution: Areas from the attribution callback.
        notes: Sentences about files that could not be read.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    config_texts: Mapping[str, str]
    environments: Mapping[str, Mapping[str, Any]]
    curves: Sequence[TrainingCurve]
    scores: Mapping[str, ScoreTable]
    errors: Mapping[str, Sequence[MosaicErrors]]
    figures: Sequence[Path]
    attribution: Sequence[AreaStudy]
    notes: Sequence[str]

    def class_name(self, part: str) -> str:
        """Return the class that the config names for ``model`` or ``data``; empty where it does not say."""
        section = self.config.get(part)
        return str(section.get("class_path", "")).rpartition(".")[2] if isinstance(section, dict) else ""


def read_runs(folders: Sequence[Path]) -> list[CollectedRun]:
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
    parts = 1
    while len({path.parts[-parts:] for path in resolved}) < len(resolved):
        parts += 1
    return [_read_run(each, str(Path(*path.parts[-parts:]))) for each, path in zip(folders, resolved, strict=True)]


def read_study(folder: Path) -> AreaStudy:
    """Read a finished study of ``emseg attribute``.

    Raises:
        RunFileError: if its summary is missing or damaged.
    """

    def read(path: Path) -> AreaStudy:
        found = read_object(path)
        areas, curve = (tuple(map(_mean_area, found[part])) for part in ("summary", "curve"))
        panels = [path for path in (folder / "panels.png",) if path.is_file()]
        return AreaStudy(folder.resolve().name, areas, curve, _one_line(found.get("method", {})), panels)

    return read_file(folder / STUDY_FILE, read, "give --studies a folder of `emseg attribute`")


def _read_run(folder: Path, name: str) -> CollectedRun:
    notes: list[str] = []

    def attempt(read: Callable[[Path], Read], *parts: str) -> Read | None:
        path = folder.joinpath(*parts)
        if not path.is_file():
            return None
        try:
            return read_file(path, read, "it is left out")
        except RunFileError as error:
            notes.append(str(error))
            return None

    files = [path.name for path in sorted(folder.glob("config*.yaml"))]
    # Sorted by name, config.yaml comes behind config-test.yaml.
    configs = [attempt(read_object, file) for file in sorted(files, key=lambda file: (file != "config.yaml", file))]
    texts = {file: attempt(Path.read_text, file) for file in files}
    environments = {verb: attempt(read_object, environment_file(verb)) for verb in _ORDER}
    scores = {verb: attempt(ScoreTable.read, f"scores-{verb}.json") for verb in VERBS}
    errors = {verb: attempt(read_errors, f"errors-{verb}", "index.json") for verb in VERBS}
    curves = attempt(read_log, "metrics.csv")
    figures = sorted((folder / "figures").glob("*.png"))
    attribution = []
    for path in sorted((folder / "attribution").glob("summary-*.csv")):
        verb = path.stem.removeprefix("summary-")
        areas = attempt(lambda file: tuple(map(_mean_area, read_csv(file))), "attribution", path.name)
        settings = attempt(read_object, "attribution", f"{verb}.json") or {}
        panels = [file for file in figures if file.match(f"attribution-{'epoch-' if verb == 'fit' else verb}*")]
        # Of a fit the last epoch's alone, as there is one an epoch.
        panels = panels[-1:] if verb == "fit" else panels
        if areas:
            attribution.append(AreaStudy(verb, areas, (), _one_line(settings), panels))
    return CollectedRun(
        name=name,
        folder=folder,
        config=next(filter(None, configs), {}),
        config_texts={file: text for file, text in texts.items() if text is not None},
        environments={verb: found for verb, found in environments.items() if found},
        curves=curves or (),
        scores={verb: found for verb, found in scores.items() if found is not None},
        errors={verb: found for verb, found in errors.items() if found},
        figures=[path for path in figures if not path.stem.startswith("attribution")],
        attribution=attribution,
        notes=notes,
    )


def read_errors(path: Path) -> list[MosaicErrors]:
    """Read an ``index.json`` of error maps; files are named relative to its folder, and none outside of it is taken."""
    root = path.parent.resolve()

    def layers(files: Mapping[str, str]) -> Layers:
        paths = {name: path.parent / files[name] for name in LAYERS if name in files}
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
        for entry in read_object(path)["mosaics"]
    ]


def _place(entry: Mapping[str, Any]) -> ErrorObject:
    y, x = map(to_number, entry["centre_px"][-2:])
    return y, x, to_number(entry.get("length_nm"))


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    return int(values[-2]), int(values[-1])


def _mean_area(record: Mapping[str, Any]) -> MeanArea:
    """Read a row of a study's summary or of the callback's table, which name their columns differently."""
    is_study = "threshold" in record
    names = {extent: f"{extent.quantity}_{extent.unit}" if is_study else extent.column for extent in (VOLUME, AREA)}
    extent = VOLUME if names[VOLUME] in record else AREA
    return MeanArea(
        outcome=str(record["outcome"]),
        threshold=to_number(record["threshold" if is_study else "k"]),
        pixels=int(record["pixels"]),
        extent=extent,
        size=to_number(record[names[extent]]),
        se=to_number(record.get(f"{extent.quantity if is_study else extent.column}_se")),
        share=to_number(record["share"]),
        completeness=to_number(record.get("completeness" if is_study else "relative_completeness_error")),
        epoch=to_number(record.get("epoch")),
    )


def _one_line(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if not isinstance(value, dict | list)}
