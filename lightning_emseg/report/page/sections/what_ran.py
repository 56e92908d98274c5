"""What ran: settings, data, versions, state of the code, time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_emseg.report.page.run_files import Run
from lightning_emseg.report.page.tables import Cell, Table
from lightning_emseg.report.page.wording import NOTHING

_SETTINGS = {
    "network": "model.class_path",
    "encoder": "model.init_args.encoder",
    "loss": "model.init_args.loss.class_path",
    "optimizer": "model.init_args.optimizer.class_path",
    "learning rate": "model.init_args.optimizer.init_args.lr",
    "data": "data.class_path",
    "store": "data.init_args.store",
    "patch (px)": "data.init_args.patch_size",
    "batch": "data.init_args.batch_size",
    "most epochs": "trainer.max_epochs",
    "most time": "trainer.max_time",
    "precision": "trainer.precision",
}
_VERSIONS = ("lightning-emseg", "torch", "pytorch-lightning", "segmentation_models_pytorch", "numpy")


@dataclass(frozen=True)
class Files:
    """What one run recorded, in full.

    Attributes:
        run: Its name.
        folder: Where it is.
        configs: Config files by name.
        packages: Names with versions, one string a verb.
        notes: What could not be read.
    """

    run: str
    folder: str
    configs: Mapping[str, str]
    packages: Mapping[str, str]
    notes: Sequence[str]


@dataclass(frozen=True)
class WhatRan:
    """The section.

    Attributes:
        overview: A column a run.
        differences: Settings that are not the same in all runs, ``None`` for one run.
        files: Of each run.
    """

    overview: Table
    differences: Table | None
    files: Sequence[Files]


def what_ran(runs: Sequence[Run]) -> WhatRan:
    """The section of some runs."""
    facts = [dict(_facts(run)) for run in runs]
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    rows = [[Cell(name), *(Cell(fact.get(name, NOTHING)) for fact in facts)] for name in names]
    overview = Table("Settings and surroundings", ["", *(run.name for run in runs)], rows)
    return WhatRan(overview, _differences(runs) if len(runs) > 1 else None, [_files(run) for run in runs])


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings with their full names, values as text.

    >>> dict(flat({"trainer": {"devices": 1, "callbacks": ["a"]}}))
    {'trainer.devices': '1', 'trainer.callbacks': '["a"]'}
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    settings = dict(flat(run.config))
    for name, key in _SETTINGS.items():
        value = settings.get(key, "null")
        if value != "null":
            yield name, value.rpartition(".")[2] if key.endswith("class_path") else value
    for verb, environment in run.environments.items():
        if environment.get("started"):
            yield f"{verb} began", str(environment["started"])
    recorded = next(iter(run.environments.values()), {})
    for key, value in recorded.items():
        if key not in ("started", "packages", "git"):
            yield key.replace("_", " "), _plain(value)
    yield "code", _git(recorded.get("git"))
    packages = recorded.get("packages")
    if isinstance(packages, Mapping):
        yield "versions", ", ".join(f"{name} {packages[name]}" for name in _VERSIONS if name in packages)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return NOTHING if value is None else str(value)


def _git(state: Any) -> str:
    if not isinstance(state, Mapping):
        return "not in a git repository"
    commit = str(state.get("commit"))[:12]
    return f"commit {commit}" + (" with changes that were not committed" if state.get("changed") else "")


def _differences(runs: Sequence[Run]) -> Table:
    settings = [dict(flat(run.config)) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [
        [Cell(name), *(Cell(each.get(name, NOTHING)) for each in settings)]
        for name in names
        if len({each.get(name) for each in settings}) > 1
    ]
    return Table("Settings that differ", ["setting", *(run.name for run in runs)], rows)


def _files(run: Run) -> Files:
    packages = {
        verb: ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        for verb, found in run.environments.items()
        if isinstance(found.get("packages"), Mapping)
    }
    return Files(run.name, str(run.folder), run.config_texts, packages, run.notes)
