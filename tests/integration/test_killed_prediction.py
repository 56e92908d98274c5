"""SIGKILL at random instants: the next run continues, and the store ends as if nothing had happened.

``EMSEG_KILLS=20 pytest tests/integration/test_killed_prediction.py -s`` for as many kills as one likes.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from data_modules.store import MosaicStore, verify
from lightning_emseg import cli
from tests.support import tiny
from tests.support.processes import start_lightning

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EMSEG_KILLS", "3"))
SHAPES = {"train": ((70, 80),), "val": ((70, 66),), "test": ((6200, 60), (50, 41), (2100, 40))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed")
    tiny.make_store(path / "s.zarr", SHAPES)
    content = {
        "model": {"class_path": "VanillaUNet", "init_args": {"base_channels": 4, "depth": 2, "blend": "gaussian"}},
        "data": {
            "class_path": "Mosaic",
            "init_args": {"store": str(path / "s.zarr"), "patch_size": 64, "batch_size": 2, "patches_per_epoch": 2},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(path / "run"),
        },
    }
    (path / "e.yaml").write_text(yaml.safe_dump(content))
    cli.main(["fit", "--config", str(path / "e.yaml")])
    return path


def _run(folder: Path, out: Path, kill_after: float | None = None) -> bool:
    """Predict in a process of its own, which has everything imported; returns whether it was killed."""
    words = ["predict", "--config", str(folder / "e.yaml"), "--data.predict_split", "test", "--writer.out", str(out)]
    process = start_lightning(words)
    process.join(kill_after)
    if process.is_alive():
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_prediction_continues_to_the_same_bytes(folder: Path) -> None:
    assert not _run(folder, folder / "warm.zarr")
    begun = time.monotonic()
    assert not _run(folder, folder / "whole.zarr")
    seconds = time.monotonic() - begun
    whole = _contents(folder / "whole.zarr")
    assert whole == _contents(folder / "warm.zarr")
    instants = random.Random(0)
    kills = runs = 0
    while kills < KILLS:
        out = folder / f"p{runs}.zarr"
        # Between one and three kills on the way to one store.
        for _ in range(instants.randint(1, 3)):
            after = instants.uniform(0.02, 1) * seconds
            kills += _run(folder, out, after)
            left = sorted(path.name for path in out.glob("test/*/0/c/*"))
            print(f"kill {kills} after {after:.2f} of {seconds:.2f} s; rows of shards on disk: {len(left)}")
        assert not _run(folder, out)
        runs += 1
        assert _contents(out) == whole
        assert verify(MosaicStore(out)) == []
