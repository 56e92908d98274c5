"""Commands under one or several ranks of this machine."""

import os
import subprocess
import sys
from pathlib import Path

from lightning_emseg import cli


def lightning(folder: Path, verb: str, out: str, ranks: int, *more: str) -> None:
    """Run ``folder/e.yaml`` with its results in ``folder/out``; in this process if ``ranks`` is 1."""
    words = [verb, "--config", str(folder / "e.yaml"), "--trainer.default_root_dir", str(folder / out), *more]
    words += ["--trainer.devices", str(ranks)]
    if ranks == 1:
        cli.main(words)
        return
    command = [sys.executable, "-m", "lightning_emseg", *words, "--trainer.strategy", "ddp"]
    # Experiments may name the modules of `tiny`.
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **here}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
