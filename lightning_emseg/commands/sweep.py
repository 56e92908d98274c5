"""``emseg sweep-smoke``: whether sweeps start, before a cluster finds out."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.synthetic.mosaic import synthesize
from lightning_emseg.sweeps.definition import read
from lightning_emseg.sweeps.table import table_text, write_table
from lightning_emseg.sweeps.trials import run_trials


def sweep_smoke(sweeps: Sequence[Path], out: Path = Path("runs/sweep-smoke"), trials: int = 2, seed: int = 0) -> str:
    """Run some trials of sweeps on tiny synthetic crops, on the CPU and without a server, and show their scores.

    Run it where the sweeps' agents would run: in the folder that their commands name files from. Each trial takes
    from 15 seconds to a few minutes; ``trials.csv`` in ``out`` has all scores.

    Args:
        sweeps: YAML files in W&B's format, or folders of them.
        out: Folder of everything that is written; what an earlier run left there is replaced.
        trials: Of each sweep.
        seed: Of the draws.

    Returns:
        The table.

    Raises:
        UserError: if a file is no sweep, ``trials`` is below 1, ``out`` holds something else, or a trial fails.
    """
    if trials < 1:
        raise UserError(f"--trials must be at least 1, but is {trials}")
    definitions = [read(path) for given in sweeps for path in _files(given)]
    folder = _emptied(out).resolve()
    store = folder / "tiny.zarr"
    # Coarse, so that a crop of this size has several cells.
    synthesize(store, train=("192x192",), val=("160x170",), test=("64x64",), pixel_size_nm=12.0)
    shown = tqdm(definitions, desc="sweeps", disable=None)
    outcomes = [each for sweep in shown for each in run_trials(sweep, trials, seed, store, folder)]
    write_table(folder / _TABLE, outcomes)
    text = f"{table_text(outcomes)}\n{out / _TABLE}"
    failed = [str(each.log) for each in outcomes if each.status]
    if failed:
        raise UserError(f"{len(failed)} of {len(outcomes)} trials failed; see {', '.join(failed)}\n{text}")
    return text


_TABLE = "trials.csv"
_WRITTEN = {"tiny.zarr", "logs", "metrics", "runs", "weights", _TABLE}


def _files(given: Path) -> list[Path]:
    found = sorted(given.glob("*.yaml")) if given.is_dir() else [given]
    if not found:
        raise UserError(f"there are no sweeps (*.yaml) in {given}")
    return found


def _emptied(out: Path) -> Path:
    foreign = [path.name for path in out.glob("*") if path.name not in _WRITTEN]
    if foreign:
        raise UserError(f"{out} holds {foreign[0]}, which no earlier smoke run wrote: choose another --out")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    return out
