"""A run that was stopped and resumed is, to the bit, the run that was not.

``make test-kills`` kills twenty (``EMSEG_KILLS``) at random
and stops every variant; without it there are one kill and two stops, which take a minute less.
"""

import functools
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.interrupted import STOP, diary, differences, state, write_experiment
from tests.support.processes import run_lightning, words_of

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EMSEG_KILLS", "1"))
COSINE = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 17}}
PLATEAU = {
    "class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
    "init_args": {"monitor": "val_tiles/f1", "mode": "min", "patience": 0, "factor": 0.5},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "steps": {"model__init_args": {"lr_scheduler": COSINE, "lr_interval": "step"}},
    "epochs": {"model__init_args": {"lr_scheduler": COSINE}, "data__init_args__num_workers": 2},
    "plateau": {"model__init_args": {"lr_scheduler": PLATEAU}},
    "accumulate": {"trainer__accumulate_grad_batches": 2},
    "part_epochs": {"trainer__limit_train_batches": 4, "trainer__val_check_interval": 0.5},
}


def fit(folder: Path, name: str, stop: str = "", resume: bool = False, *more: str) -> int:
    """Train in a process of its own; returns its exit status."""
    words = words_of(folder, "fit", name, *more)
    last = folder / name / "checkpoints" / "last.ckpt"
    return run_lightning([*words, "--ckpt_path", str(last)] if resume and last.exists() else words, {STOP: stop})


Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Folders:
    """A folder a variant, with the uninterrupted run in it."""

    @functools.cache
    def make(variant: str) -> Path:
        path = tmp_path_factory.mktemp(variant)
        write_experiment(path, tiny_store, **VARIANTS[variant])
        # Without loader processes, whose start takes longest; they must not matter.
        assert fit(path, "whole", "", False, "--data.num_workers", "0") == 0
        assert state(path / "whole")["epoch"] == 3, "the last epoch, whether or not it was the best"
        return path

    return make


STOPS = [
    ("steps", "SIGTERM batch 8 0"),
    ("epochs", "SIGUSR1 step 7 0"),
    ("plateau", "SIGTERM validation 4 0"),
    ("accumulate", "SIGTERM batch 8 0"),
    ("part_epochs", "SIGUSR1 batch 6 0"),
]


@pytest.mark.parametrize(("variant", "stop"), STOPS if KILLS > 1 else STOPS[:2])
def test_preempted_run_goes_on_at_next_batch(folders: Folders, variant: str, stop: str) -> None:
    folder = folders(variant)
    assert fit(folder, "stopped", stop) == 128 + signal.SIGTERM
    assert 0 < len(diary(folder / "stopped")) < len(diary(folder / "whole"))
    assert fit(folder, "stopped", resume=True) == 0
    # Not a batch twice, not a batch left out, and each with the bits of the uninterrupted run.
    assert diary(folder / "stopped") == diary(folder / "whole")
    assert differences(state(folder / "stopped"), state(folder / "whole")) == []
    assert differences(state(folder / "stopped", "best"), state(folder / "whole", "best")) == []


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_run_ends_like_an_uninterrupted_one(folders: Folders, number: int) -> None:
    instants = random.Random(number)
    variant = list(VARIANTS)[number % len(VARIANTS)]
    folder, name = folders(variant), f"killed-{number}"
    place, most = instants.choice([("batch", 16), ("step", 8), ("validation", 8), ("epoch", 3)])
    stop = f"SIGKILL {place} {instants.randint(1, most)} 0"
    assert fit(folder, name, stop) == -signal.SIGKILL
    before, whole = len(diary(folder / name)), diary(folder / "whole")
    assert fit(folder, name, resume=True) == 0
    again = diary(folder / name)
    found = differences(state(folder / name), state(folder / "whole"))
    print(f"{variant} | {stop} | {before} batches before | {len(again) - len(whole)} redone | {len(found)} differences")
    assert found == []
    # What came after the last checkpoint is done again, with the same bits.
    done = {(line["epoch"], line["batch"]): line for line in again}
    assert list(done.values()) == whole
    assert all(line in whole for line in again)
