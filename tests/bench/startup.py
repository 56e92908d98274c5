"""CPU seconds of whole commands that do little, beside bare imports of the libraries that they would wait for."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from tests.bench.harness import Row, store_of, synthetic_mask
from tests.support import ROOT

REPEATS = 3
SIDE = 256
TORCH, LIGHTNING_CLI = "import torch", "import pytorch_lightning.cli"
EMSEG = ("-c", "from lightning_emseg.commands import main; main()")
LIGHTNING = ("-m", "lightning_emseg")
COMMANDS: dict[str, tuple[str, ...]] = {
    TORCH: ("-c", TORCH),
    LIGHTNING_CLI: ("-c", LIGHTNING_CLI),
    "emseg --help": (*EMSEG, "--help"),
    "lightning --help": (*LIGHTNING, "--help"),
    "lightning fit --help": (*LIGHTNING, "fit", "--help"),
    "emseg score p.png t.png": (*EMSEG, "score", "p.png", "t.png"),
    "emseg errors p.zarr t.zarr e": (*EMSEG, "errors", "p.zarr", "t.zarr", "e"),
    "emseg data synthesize --help": (*EMSEG, "data", "synthesize", "--help"),
    "emseg data inspect t.zarr": (*EMSEG, "data", "inspect", "t.zarr"),
}
WITHIN_S = {"emseg --help": 1.0, "lightning --help": 1.0}
"""Targets; 4 s for the others."""
ABOVE_IMPORT_S = 2.0


def rows(scratch: Path) -> Iterator[Row]:
    """The least CPU seconds of each command in runs that take turns, system time included."""
    for number, name in enumerate(("p", "t")):
        Image.fromarray(synthetic_mask((SIDE, SIDE), number) * 255).save(scratch / f"{name}.png")
        store_of(scratch / f"{name}.zarr", (SIDE, SIDE), label="membrane" if name == "t" else None, seed=number)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, words in COMMANDS.items():
            seconds[name].append(cpu_seconds([sys.executable, *words], scratch))
    least = {name: min(values) for name, values in seconds.items()}
    for name, value in least.items():
        if name in (TORCH, LIGHTNING_CLI):
            yield Row("startup", name, value, "s of CPU")
            continue
        is_verb = name == "lightning fit --help"
        bare = LIGHTNING_CLI if is_verb else TORCH
        limit = least[LIGHTNING_CLI] + ABOVE_IMPORT_S if is_verb else WITHIN_S.get(name, 4.0)
        target = f"≤ the import + {ABOVE_IMPORT_S:g} s" if is_verb else f"≤ {limit:g} s"
        yield Row("startup", name, value, "s of CPU", bare, value / least[bare], target, value <= limit)


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """User and system time of a command and its children.

    Raises:
        RuntimeError: if the command failed, with the end of its output.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
