"""What a sweep's YAML defines, and the trials that W&B's own search draws from it."""

import importlib
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from data_modules.errors import UserError

Parameters = Mapping[str, Any]
"""Values of one trial by the name of their command-line argument, as ``model.init_args.encoder``."""


@dataclass(frozen=True)
class Sweep:
    """A checked definition.

    Attributes:
        path: Of the YAML.
        config: Its content, with the distributions that W&B fills in.
    """

    path: Path
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the file, without its ending."""
        return self.path.stem

    @property
    def metric(self) -> str | None:
        """Name of the score that the sweep looks at, if it names one."""
        metric: Mapping[str, str] = self.config.get("metric", {})
        return metric.get("name")


def read(path: Path) -> Sweep:
    """Read a sweep and hold it against W&B's own schema.

    Args:
        path: A YAML in W&B's format.

    Raises:
        UserError: if there is no such file, it is no mapping, or it violates the schema; also if W&B's package
            ``sweeps``, which has the schema, is not installed.
    """
    if not path.is_file():
        raise UserError(f"no sweep at {path}: give YAML files, or a folder of them such as experiments/sweeps")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} defines no sweep: it must have the keys method, parameters and command")
    search = _search()
    violations = search.schema_violations_from_proposed_config(content) if "parameters" in content else ["parameters"]
    if violations:
        raise UserError(f"{path} is no sweep that W&B would accept: {'; '.join(violations)}")
    return Sweep(path, dict(search.SweepConfig(content)))


def draw(sweep: Sweep, number: int, seed: int) -> list[Parameters]:
    """The first trials that W&B's search would start, at random places of a grid.

    Args:
        sweep: Of method ``grid`` or ``random``.
        number: Of trials, at least 1.
        seed: Of the draws.

    Returns:
        ``number`` trials, fewer where the grid has no more.

    Raises:
        UserError: if the method is another, whose draws depend on earlier results.
    """
    method = sweep.config["method"]
    if method not in _OPTIONS:
        raise UserError(f"{sweep.path}: trials of method {method} cannot be drawn without results; use grid or random")
    state = random.getstate()
    # W&B's search draws from Python's global generator.
    random.seed(seed)
    try:
        runs = _search().next_runs(dict(sweep.config), [], n=number, **_OPTIONS[method])
    finally:
        random.setstate(state)
    return [{name: _plain(entry["value"]) for name, entry in run.config.items()} for run in runs if run is not None]


_OPTIONS: Mapping[str, Mapping[str, bool]] = {"grid": {"randomize_order": True}, "random": {}}


def _plain(value: Any) -> Any:
    """As the server would send it, which knows no numbers of numpy."""
    return value.item() if hasattr(value, "item") else value


def _search() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # It is written for pydantic 1 and works with 2, which remarks on it.
            warnings.simplefilter("ignore")
            return importlib.import_module("sweeps")
    except ImportError as error:
        raise UserError("W&B's package for sweeps is not installed: pip install 'sweeps>=0.2,<0.3'") from error
