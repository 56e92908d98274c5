"""Trials run one after the other on this machine, without a server."""

import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.errors import UserError
from lightning_emseg.sweeps.command_line import command_line, training_first, verb_of
from lightning_emseg.sweeps.definition import Parameters, Sweep, draw
from lightning_emseg.sweeps.tiny import tiny


@dataclass(frozen=True)
class Outcome:
    """What became of one trial.

    Attributes:
        sweep: Its name.
        trial: Number within the sweep, from 0.
        parameters: That the sweep drew.
        used: Values of the same names that the trial ran with, where being tiny or offline asks for others.
        status: Exit status of the command; 0 is success.
        seconds: It took.
        metric: Name of the score that the sweep looks at, if it names one.
        scores: Last value of everything that was logged, by name.
        log: File with what the command printed.
    """

    sweep: str
    trial: int
    parameters: Parameters
    used: Parameters
    status: int
    seconds: float
    metric: str | None
    scores: Mapping[str, float]
    log: Path


def run_trials(sweep: Sweep, number: int, seed: int, store: Path, folder: Path) -> list[Outcome]:
    """Draw trials and run each on a tiny store, with W&B offline; what they write lies in ``folder``.

    Args:
        sweep: Whose command names files relative to the working directory.
        number: Of trials.
        seed: Of the draws.
        store: Tiny store; see :func:`~lightning_emseg.sweeps.tiny.tiny`.
        folder: Working directory of the trials.

    Raises:
        UserError: if the command starts no verb of ``lightning``, or the weights that it needs cannot be trained.
    """
    trials = draw(sweep, number, seed)
    more = {} if verb_of(sweep) == "fit" else {"ckpt_path": str(_weights(sweep, trials[0], store, folder))}
    outcomes = []
    for trial, parameters in enumerate(trials):
        name = f"{sweep.name}-{trial}"
        metrics = folder / "metrics" / name
        settings = {**parameters, **tiny(parameters, store, metrics), **more}
        began = time.perf_counter()
        log, status = _run(command_line(sweep, settings), name, folder)
        scores = last_values(metrics / "metrics.csv")
        seconds = time.perf_counter() - began
        used = {name: settings[name] for name in parameters}
        outcomes.append(Outcome(sweep.name, trial, parameters, used, status, seconds, sweep.metric, scores, log))
    return outcomes


def last_values(path: Path) -> dict[str, float]:
    """Last value of every column of a CSV log; nothing if there is none.

    Args:
        path: Of the file, in which rows fill some columns only.
    """
    values: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                values |= {name: float(value) for name, value in row.items() if value}
    return values


def _weights(sweep: Sweep, parameters: Parameters, store: Path, folder: Path) -> Path:
    """Train for what does not train itself, with the same configuration."""
    target = folder / "weights" / sweep.name
    name = f"{sweep.name}-weights"
    settings = {**tiny(parameters, store, folder / "metrics" / name), "checkpoint.dirpath": str(target)}
    log, status = _run(training_first(command_line(sweep, settings)), name, folder)
    if status:
        raise UserError(f"{sweep.path}: the network that it needs could not be trained; see {log}")
    return target / "best.ckpt"


def _run(words: Sequence[str], name: str, folder: Path) -> tuple[Path, int]:
    """Run a command in ``folder`` as the agent would, as run ``name``; returns its log and its exit status."""
    log = folder / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    # The agent's interpreter is the first `python` on the path, which should be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "WANDB_MODE": "offline", "WANDB_RUN_ID": name}
    here = [str(Path(word).resolve()) if Path(word).is_file() else word for word in words]
    with log.open("w") as file:
        done = subprocess.run(
            here, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    return log, done.returncode
