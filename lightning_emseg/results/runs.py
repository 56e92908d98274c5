"""Run folders and attribution studies, read back as the framework writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_modules.errors import UserError
from lightning_emseg.evaluation.error_pictures import MosaicErrors, read_errors
from lightning_emseg.evaluation.score_table import ScoreTable
from lightning_emseg.results.files import (
    DAMAGE,
    Read,
    RunFileError,
    TrainingCurve,
    describe_damage,
    environment_file,
    read_file,
    read_log,
    read_object,
    read_steps,
)

if TYPE_CHECKING:  # attribution imports torch, which leaderboards do without
    from lightning_emseg.attribution.areas import Extent
    from lightning_emseg.attribution.table import FieldSummary

VERBS = ("test", "validate")
"""Verbs that score whole mosaics; the first one with scores is what a page shows first."""
STUDY_FILE = "summary.json"
_ORDER = ("fit", "validate", "test", "predict")
_SIGNS = ("config*.yaml", "environment*.json", "metrics.csv", "scores-*.json")


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
    areas: "Sequence[FieldSummary]"
    curve: "Sequence[FieldSummary]"
    method: Mapping[str, Any]
    panels: Sequence[Path]

    @property
    def extent(self) -> "Extent":
        """Kind of S_k of all of its fields."""
        from lightning_emseg.attribution.areas import AREA

        return next((area.sizes[0].extent for area in (*self.areas, *self.curve)), AREA)

    @property
    def latest(self) -> "list[FieldSummary]":
        """Sizes of the last epoch, where there are several."""
        epochs = [area.epoch for area in self.areas if area.epoch is not None]
        return [area for area in self.areas if not epochs or area.epoch == max(epochs)]


@dataclass(frozen=True)
class CollectedRun:
    """Files of one run; those that are missing or damaged are left out.

    Attributes:
        name: Name of its folder, with as many parents as make it different from the other runs'.
        folder: Path of the folder.
        configs: Resolved settings by config file, that of the fit first.
        config_texts: Config files by name, as they were written.
        environments: Contents of ``environment*.json`` by verb.
        curves: Training curves; empty without a log.
        steps: Optimiser steps by the log; 0 without one.
        scores: Scores of whole mosaics by verb.
        errors: Errors by verb.
        figures: Overlays.
        attribution: Areas from the attribution callback.
        damage: Reasons why files could not be read, by name below the folder.
    """

    name: str
    folder: Path
    configs: Mapping[str, Mapping[str, Any]]
    config_texts: Mapping[str, str]
    environments: Mapping[str, Mapping[str, Any]]
    curves: Sequence[TrainingCurve]
    steps: int
    scores: Mapping[str, ScoreTable]
    errors: Mapping[str, Sequence[MosaicErrors]]
    figures: Sequence[Path]
    attribution: Sequence[AreaStudy]
    damage: Mapping[str, str]

    @property
    def config(self) -> Mapping[str, Any]:
        """Resolved settings, those of the fit if there are any."""
        return next(filter(None, self.configs.values()), {})

    @property
    def notes(self) -> list[str]:
        """Sentences about files that could not be read."""
        return [f"{problem}: it is left out" for problem in self.damage.values()]

    def make_error(self, file: str, advice: str) -> RunFileError:
        """Make the error that says that a file is missing or damaged, and what to do."""
        return RunFileError(f"{self.damage.get(file, f'{self.folder} has no {file}')}: {advice}")

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
    return [read_run(each, str(Path(*path.parts[-parts:]))) for each, path in zip(folders, resolved, strict=True)]


def read_area_study(folder: Path) -> AreaStudy:
    """Read a finished study of ``emseg attribute``.

    Raises:
        RunFileError: if its summary is missing or damaged.
    """
    from lightning_emseg.attribution.table import read_summary

    def read(path: Path) -> AreaStudy:
        areas, curve, method = read_summary(path)
        panels = [path for path in (folder / "panels.png",) if path.is_file()]
        return AreaStudy(folder.resolve().name, areas, curve, _one_line(method), panels)

    return read_file(folder / STUDY_FILE, read, "give --studies a folder of `emseg attribute`")


def read_run(folder: Path, name: str = "") -> CollectedRun:
    """Read a run folder; one without any file gives an empty run."""
    damage: dict[str, str] = {}

    def attempt(read: Callable[[Path], Read], file: str) -> Read | None:
        path = folder / file
        if not path.is_file():
            return None
        try:
            return read(path)
        except DAMAGE as error:
            damage.setdefault(file, describe_damage(path, error))
            return None

    files = [path.name for path in sorted(folder.glob("config*.yaml"))]
    # Sorted by name, config.yaml comes behind config-test.yaml.
    ordered = sorted(files, key=lambda file: (file != "config.yaml", file))
    configs = {file: attempt(read_object, file) for file in ordered}
    texts = {file: attempt(Path.read_text, file) for file in files}
    environments = {verb: attempt(read_object, environment_file(verb)) for verb in _ORDER}
    scores = {verb: attempt(ScoreTable.read, f"scores-{verb}.json") for verb in VERBS}
    errors = {verb: attempt(read_errors, f"errors-{verb}/index.json") for verb in VERBS}
    curves = attempt(read_log, "metrics.csv")
    figures = sorted((folder / "figures").glob("*.png"))
    attribution = []
    for path in sorted((folder / "attribution").glob("summary-*.csv")):
        from lightning_emseg.attribution.table import read_epochs

        verb = path.stem.removeprefix("summary-")
        areas = attempt(read_epochs, f"attribution/{path.name}")
        settings = attempt(read_object, f"attribution/{verb}.json") or {}
        panels = [file for file in figures if file.match(f"attribution-{'epoch-' if verb == 'fit' else verb}*")]
        # Of a fit the last epoch's alone, as there is one an epoch.
        panels = panels[-1:] if verb == "fit" else panels
        if areas:
            attribution.append(AreaStudy(verb, areas, (), _one_line(settings), panels))
    return CollectedRun(
        name=name or folder.name,
        folder=folder,
        configs={file: found for file, found in configs.items() if found is not None},
        config_texts={file: text for file, text in texts.items() if text is not None},
        environments={verb: found for verb, found in environments.items() if found is not None},
        curves=curves or (),
        steps=attempt(read_steps, "metrics.csv") or 0,
        scores={verb: found for verb, found in scores.items() if found is not None},
        errors={verb: found for verb, found in errors.items() if found},
        figures=[path for path in figures if not path.stem.startswith("attribution")],
        attribution=attribution,
        damage=damage,
    )


def _one_line(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if not isinstance(value, dict | list)}
