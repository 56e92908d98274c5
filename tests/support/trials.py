"""Trials of the shipped sweeps, as `wandb agent` starts them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from tests.support import EXPERIMENTS

SWEEPS: Mapping[str, Mapping[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((EXPERIMENTS / "sweeps").glob("*.yaml"))
}
"""Content of every shipped sweep by the name of its file."""


def trial_words(sweep: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """Fill in the macros of a sweep's command, by the functions of the agent."""
    arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    macros = {**arguments, "interpreter": ["python"], "program": [sweep["program"]]}
    words = map(str, create_sweep_command(list(sweep["command"])))
    return [part for word in words for part in macros.get(word.removeprefix("${").removesuffix("}"), [word])]


def sweep_over(name: str, experiment: Path) -> dict[str, Any]:
    """A shipped sweep with a tiny experiment in place of its own, for a working directory elsewhere."""
    words = [str(experiment) if word.endswith("unet.yaml") else str(word) for word in SWEEPS[name]["command"]]
    command = [str(EXPERIMENTS.parent / word) if word.startswith("experiments/") else word for word in words]
    return {**SWEEPS[name], "command": command}
