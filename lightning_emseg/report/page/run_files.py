"""What a run left behind in its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.errors import UserError
from lightning_emseg.report.page.attribution_files import AreaStudy, read_run_attribution
from lightning_emseg.report.page.error_index import MosaicErrors, read_errors
from lightning_emseg.report.page.reading import attempt, json_object
from lightning_emseg.report.page.score_file import Scores, read_scores
from lightning_emseg.report.page.training_log import Curve, read_log

VERBS = ("test", "validate")
"""That score whole mosaics; the first one with scores is what a page shows first."""
_ORDER = ("fit", "validate", "test", "predict")
_SIGNS = ("config*.yaml", "environment*.json", "metrics.csv", "scores-*.json")


@dataclass(frozen=True)
class Run:
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
    curves: tuple[Curve, ...]
    scores: Mapping[str, Scores]
    errors: Mapping[str, tuple[MosaicErrors, ...]]
    figures: tuple[Path, ...]
    attribution: tuple[AreaStudy, ...]
    notes: tuple[str, ...]

    def class_name(self, part: str) -> str:
        """Name of the class that the config gives for ``model`` or ``data``; empty where it does not say."""
        section = self.config.get(part)
        return str(section.get("class_path", "")).rpartition(".")[2] if isinstance(section, dict) else ""


def read_runs(folders: Sequence[Path]) -> list[Run]:
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


def _read(folder: Path, name: str) -> Run:
    notes: list[str] = []
    texts = {path.name: attempt(Path.read_text, path, notes) for path in sorted(folder.glob("config*.yaml"))}
    configs = {path.name: attempt(_config, path, notes) for path in sorted(folder.glob("config*.yaml"))}
    environments = {
        path.name: attempt(json_object, path, notes) for path in map(folder.joinpath, map(_environment_file, _ORDER))
    }
    scores = {verb: attempt(read_scores, folder / f"scores-{verb}.json", notes) for verb in VERBS}
    errors = {verb: attempt(read_errors, folder / f"errors-{verb}" / "index.json", notes) for verb in VERBS}
    figures = [path for path in sorted((folder / "figures").glob("*.png")) if not path.stem.startswith("attribution")]
    return Run(
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
